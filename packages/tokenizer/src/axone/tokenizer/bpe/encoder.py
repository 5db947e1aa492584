"""Encoder: splits text into pieces and replaces each piece by its token ids.

Most pieces of a text occur many times. A long text is first converted to indices of its distinct pieces, which are
then merged all at once; for short texts the ids of pieces are cached between calls.

The caller decides which special tokens are allowed: they become their ids, others are ordinary text.
"""

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from axone.tokenizer.bpe.apply_merges import PairMerger
from axone.tokenizer.bpe.flat_words import REMOVED, IntArray, gather_segments
from axone.tokenizer.bpe.model import BPEModel
from axone.tokenizer.bpe.patterns import code_points, pre_tokenizer
from axone.tokenizer.bpe.piece_table import PieceTable
from axone.tokenizer.bpe.special_tokens import token_pattern
from axone.tokenizer.bpe.vectorized_patterns import SEPARATOR

_SHORT = 1 << 14  # characters: for shorter texts the cache is faster than arrays
_CACHE_SIZE = 1 << 17  # pieces
_LONG_PIECE = 256  # characters: longer ones are not cached
_END = REMOVED - 1  # marks the end of each text of a batch


class TextEncoder:
    """Encoder of a model. Safe to use from several threads at once.

    Parameters
    ----------
    model : BPEModel
        The vocabulary, the merges and the preparation of text.
    """

    def __init__(self, model: BPEModel) -> None:
        self._model = model
        self._splitter = pre_tokenizer(model.pattern)
        self._merger = PairMerger(model.byte_ids, model.merges, model.products)
        self._cache = _PieceCache(self._encode_piece)

    def encode(self, text: str, allowed: frozenset[str]) -> NDArray[np.int32]:
        """Return the ids of a valid text, shape (T,); `allowed` special tokens become their ids.

        Raises
        ------
        TokenizerError
            If the text holds bytes without a token, or the pattern is too slow.
        """
        parts = self._parts(text, allowed)
        return self._encode_short(parts) if len(text) < _SHORT else self._encode_long(parts)

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
        if self._model.ignore_merges:
            pieces = table.strings()
            several = (counts > 1).nonzero()[0].tolist()
            whole = {i: id for i in several if (id := self._model.vocabulary.get(pieces[i].encode())) is not None}
            found = np.array([*whole], dtype=np.int64)
            starts[found], counts[found] = np.arange(len(ids), len(ids) + len(found)), 1
            ids = np.append(ids, np.array([*whole.values()], dtype=np.int64))
        return ids.astype(np.int32), starts, counts

    def _encode_piece(self, piece: str) -> bytes:
        """Return the ids of one piece, as the bytes of an int32 array."""
        word = piece.encode()
        if self._model.ignore_merges and (id := self._model.vocabulary.get(word)) is not None:
            return np.int32(id).tobytes()
        return np.array(self._merger.merge_word(word), dtype=np.int32).tobytes()

    def _parts(self, text: str, allowed: frozenset[str]) -> Iterator[str | int]:
        """Yield the ids of allowed special and of added tokens, and the normalized text between them."""
        tokens = frozenset(allowed | self._model.added_tokens.keys())
        later = tokens.intersection(self._model.normalized_tokens)
        for part in self._split_at(text, tokens - later):
            if later and isinstance(part, str):
                yield from self._split_at(part, later)
            else:
                yield part

    def _split_at(self, text: str, tokens: frozenset[str]) -> Iterator[str | int]:
        model = self._model
        pattern = token_pattern(tokens)
        start = 0
        for found in pattern.finditer(text) if pattern is not None else ():
            yield self._normalize(text[start : found.start()])
            token = found.group()
            yield model.special_tokens[token] if token in model.special_tokens else model.added_tokens[token]
            start = found.end()
        yield self._normalize(text[start:] if start else text)

    def _normalize(self, text: str) -> str:
        return unicodedata.normalize("NFC", text) if self._model.normalization else text


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
