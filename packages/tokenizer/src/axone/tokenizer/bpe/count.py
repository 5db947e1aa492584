"""Counting the pieces of a corpus, which is all that training needs of it: a stream of texts in, one weight for each piece out.

What is kept grows with the number of different pieces, not with the corpus.
"""

import re
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from axone.tokenizer.bpe.flat import IntArray
from axone.tokenizer.bpe.patterns import PreTokenizer, code_points
from axone.tokenizer.bpe.pieces import PieceTable
from axone.tokenizer.bpe.rules import BREAK
from axone.tokenizer.protocol import text_to_bytes

_TOGETHER = 1 << 16  # characters of short texts that are gathered


def count_pieces(
    texts: Iterable[str],
    splitter: PreTokenizer,
    *,
    separators: Iterable[str] = (),
    on_progress: Callable[[], object] | None = None,
) -> tuple[list[bytes], IntArray]:
    """Count the pieces of texts.

    Parameters
    ----------
    texts : Iterable[str]
        Read once, one after another. Pieces do not cross from one to the next.
    splitter : PreTokenizer
        What cuts a text into pieces.
    separators : Iterable[str]
        Strings that are cut out first: special tokens are not text.
    on_progress : Callable[[], object], optional
        Called after about each million characters.

    Returns
    -------
    pieces : list[bytes]
        The different pieces in UTF-8.
    counts : IntArray, shape (U,)
        How often each occurs.
    """
    table = PieceTable()
    counts = np.zeros(1, dtype=np.int64)
    for joined in _joined(_cut(texts, separators)):
        for block in splitter.blocks(joined):
            points = code_points(block)
            numbers = table.number(points, splitter.cut(block, points))
            if len(table) > len(counts):
                counts = np.append(counts, np.zeros(2 * len(table) - len(counts), dtype=np.int64))
            counts[: len(table)] += np.bincount(numbers, minlength=len(table))
        if on_progress is not None:
            on_progress()
    pieces = table.strings()
    text = np.array([piece != BREAK for piece in pieces], dtype=np.bool_)
    return [piece.encode() for piece in pieces if piece != BREAK], counts[: len(table)][text]


def _cut(texts: Iterable[str], separators: Iterable[str]) -> Iterator[str]:
    """Yield the texts, checked, without the separators."""
    ordered = sorted(separators, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None
    for text in texts:
        if not text.isascii():
            text_to_bytes(text, "utf-8")
        if pattern is None:
            yield text
        else:
            yield from pattern.split(text)


def _joined(texts: Iterable[str]) -> Iterator[str]:
    """Join short texts, with breaks between them: arrays are for many characters at once."""
    together: list[str] = []
    size = 0
    for text in texts:
        together.append(text)
        size += len(text)
        if size >= _TOGETHER:
            yield BREAK.join(together)
            together, size = [], 0
    yield BREAK.join(together)
