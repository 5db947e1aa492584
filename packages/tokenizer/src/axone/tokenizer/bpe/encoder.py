"""Encoder: splits text into pieces and replaces each piece by its token ids.

Most pieces of a text occur many times. A long text is first converted to indices of its distinct pieces, which are
then merged all at once; for short texts the ids of pieces are cached between calls.

The caller decides which special tokens are allowed: they become their ids, others are ordinary text.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from axone.tokenizer.bpe.apply_merges import PairMerger
from axone.tokenizer.bpe.flat_words import REMOVED, IntArray, gather_segments
from axone.tokenizer.bpe.patterns import PreTokenizer, code_points
from axone.tokenizer.bpe.piece_table import PieceTable
from axone.tokenizer.bpe.special_tokens import token_pattern
from axone.tokenizer.bpe.vectorized_patterns import SEPARATOR

_SHORT = 1 << 14  # characters: for shorter texts the cache is faster than arrays
_CACHE_SIZE = 1 << 17  # pieces
_LONG_PIECE = 256  # characters: longer ones are not cached
_END = REMOVED - 1  # marks the end of each text of a batch


class TextEncoder:
    """Encoder of a vocabulary with merges. Safe to use from several threads at once.

    Parameters
    ----------
    splitter : PreTokenizer
        Splits normalized text into pieces.
    merger : PairMerger
        Merges pieces.
    special_tokens, added_tokens : mapping of str to int
        Tokens that are found in a text if they are allowed, and those that are always found.
    searched_last : collection of str
        The special and added tokens that are searched after all others.
    normalize : callable, optional
        Maps a part of a text without such tokens, and whether it is the first, to the normalized part.
    whole_pieces : mapping of bytes to int, optional
        Pieces that become one token without merging.
    """

    def __init__(
        self,
        splitter: PreTokenizer,
        merger: PairMerger,
        *,
        special_tokens: Mapping[str, int],
        added_tokens: Mapping[str, int],
        searched_last: Collection[str] = (),
        normalize: Callable[[str, bool], str] | None = None,
        whole_pieces: Mapping[bytes, int] | None = None,
    ) -> None:
        self._splitter = splitter
        self._merger = merger
        self._special_tokens = special_tokens
        self._added_tokens = added_tokens
        self._ids = {**added_tokens, **special_tokens}
        self._always_found = frozenset(added_tokens)
        self._searched_last = frozenset(searched_last)
        self._normalize = normalize or (lambda text, _: text)
        self._whole_pieces = whole_pieces
        self._cache = _PieceCache(self._encode_piece)

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Tokens that are found in a text only if they are allowed."""
        return self._special_tokens

    @property
    def added_tokens(self) -> Mapping[str, int]:
        """Tokens that are always found in a text."""
        return self._added_tokens

    def encode(self, text: str, allowed: frozenset[str]) -> NDArray[np.int32]:
        """Return the ids of a valid text, shape (T,); `allowed` special tokens become their ids.

        Raises
        ------
        TokenizerError
            If the text holds bytes without a token, or the pattern is too slow.
        """
        parts = self._parts(text, allowed)
        return self._encode_short(parts) if len(text) < _SHORT else self._encode_long(parts)

    def encode_parts(self, parts: Sequence[str | int]) -> NDArray[np.int32]:
        """Return the ids of a text whose special tokens are given as ids, shape (T,)."""
        split = (
            inner
            for i, part in enumerate(parts)
            for inner in ([part] if isinstance(part, int) else self._parts(part, frozenset(), begins=i == 0))
        )
        size = sum(len(part) for part in parts if isinstance(part, str))
        return self._encode_short(split) if size < _SHORT else self._encode_long(split)

    def encode_batch(self, texts: Sequence[str], allowed: frozenset[str]) -> list[NDArray[np.int32]]:
        """Return the ids of each text, as `encode`."""
        if sum(map(len, texts)) < _SHORT:
            return [self.encode(text, allowed) for text in texts]
        ids = self._encode_long(part for text in texts for part in (*self._parts(text, allowed), _END))
        stops = (ids == _END).nonzero()[0].tolist()
        return [ids[start + 1 : stop] for start, stop in pairwise([-1, *stops])]

    def _encode_short(self, parts: Iterable[str | int]) -> NDArray[np.int32]:
        """Encode piece by piece, with a cache."""
        ids = bytearray()
        for part in parts:
            if isinstance(part, int):
                ids += np.int32(part).tobytes()
            elif part:
                starts = self._splitter.split(part, code_points(part)).tolist()
                pieces = [part[start:stop] for start, stop in pairwise([*starts, len(part)])]
                ids += b"".join(map(self._cache.__getitem__, pieces))
        return np.frombuffer(ids, dtype=np.int32)

    def _encode_long(self, parts: Iterable[str | int]) -> NDArray[np.int32]:
        """Intern the pieces, merge the distinct ones all at once, and replace indices by ids.

        A special token, or the end of a text, is a separator here, whose id is `REMOVED` until the last step.
        """
        ordinary: list[str] = []
        between: list[int] = []
        for part in parts:
            ordinary.append(SEPARATOR if isinstance(part, int) else part)
            if isinstance(part, int):
                between.append(part)
        table = PieceTable()
        interned: list[IntArray] = []
        for block in self._splitter.blocks("".join(ordinary)):
            points = code_points(block)
            interned.append(table.intern(points, self._splitter.split(block, points)))
        ids, starts, counts = self._merge(table)
        encoded = np.concatenate([ids[:0], *(gather_segments(indices, ids, starts, counts) for indices in interned)])
        if between:
            encoded[encoded == REMOVED] = between
        return encoded

    def _merge(self, table: PieceTable) -> tuple[NDArray[np.int32], IntArray, IntArray]:
        """Return the ids of all distinct pieces, and the start and number of those of each."""
        lengths = table.lengths
        firsts = lengths.cumsum() - lengths
        text = table.points[firsts] != ord(SEPARATOR)
        starts, counts = np.zeros_like(lengths), np.ones_like(lengths)
        ids = np.array([REMOVED])
        if text.any():
            points = table.points[table.points != ord(SEPARATOR)]
            merged, merged_starts, counts[text] = self._merger.merge_words(points, lengths[text])
            ids = np.append(ids, merged)
            starts[text] = merged_starts + 1
        if self._whole_pieces is not None:
            pieces = table.strings()
            several = (counts > 1).nonzero()[0].tolist()
            whole = {i: id for i in several if (id := self._whole_pieces.get(pieces[i].encode())) is not None}
            found = np.array([*whole], dtype=np.int64)
            starts[found], counts[found] = np.arange(len(ids), len(ids) + len(found)), 1
            ids = np.append(ids, np.array([*whole.values()], dtype=np.int64))
        return ids.astype(np.int32), starts, counts

    def _encode_piece(self, piece: str) -> bytes:
        """Return the ids of one piece, as the bytes of an int32 array."""
        word = piece.encode()
        if self._whole_pieces is not None and (id := self._whole_pieces.get(word)) is not None:
            return np.int32(id).tobytes()
        return np.array(self._merger.merge_word(word), dtype=np.int32).tobytes()

    def _parts(self, text: str, allowed: frozenset[str], *, begins: bool = True) -> Iterator[str | int]:
        """Yield the ids of allowed special and of added tokens, and the normalized text between them.

        `begins` is false if other parts precede this text.
        """
        tokens = allowed | self._always_found
        last = tokens & self._searched_last
        for start, part in self._split_at(text, tokens - last):
            if isinstance(part, int):
                yield part
            elif last:
                for offset, inner in self._split_at(part, last):
                    yield inner if isinstance(inner, int) else self._normalize(inner, begins and start + offset == 0)
            else:
                yield self._normalize(part, begins and start == 0)

    def _split_at(self, text: str, tokens: frozenset[str]) -> Iterator[tuple[int, str | int]]:
        """Yield the ids of tokens and the text between them, each with its position."""
        pattern = token_pattern(tokens)
        start = 0
        for found in pattern.finditer(text) if pattern is not None else ():
            yield start, text[start : found.start()]
            yield found.start(), self._ids[found.group()]
            start = found.end()
        yield start, text[start:] if start else text


class _PieceCache(dict[str, bytes]):
    """Cache of the ids of pieces, cleared when full. Safe to use from several threads: values depend on keys only."""

    def __init__(self, encode: Callable[[str], bytes]) -> None:
        self._encode = encode

    def __missing__(self, piece: str) -> bytes:
        ids = self._encode(piece)
        if len(piece) <= _LONG_PIECE:
            if len(self) >= _CACHE_SIZE:
                self.clear()
            self[piece] = ids
        return ids
