r"""Vectorized pre-tokenization: the known patterns as array operations over the code points of a text.

A regular expression engine scans a text character by character. The patterns of GPT-2 and GPT-4 mostly split where
the class of characters changes: letters, numbers, white space, other. So the class of every character is looked up,
pieces begin where it changes, and the other rules are applied only at the positions that they concern: a space joins
the word after it, contractions are split off, long numbers and line ends are split further. The tests compare each
function with its regular expression.

Several texts can be split at once, with `SEPARATOR` between them: it ends a text and is a piece of its own.

Letters and numbers are Unicode's general categories L and N as `unicodedata` has them, white space is the property
White_Space. Characters that were assigned after the Unicode version of this Python count as other.

References
----------
.. [1] The patterns as tiktoken writes them, https://github.com/openai/tiktoken
.. [2] Unicode Standard Annex #44, "Unicode Character Database", https://www.unicode.org/reports/tr44/
"""

import functools
import unicodedata
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from axone.tokenizer.bpe.flat_words import IntArray
from axone.tokenizer.bpe.piece_table import Points

Mask = NDArray[np.bool_]
VectorizedPattern = Callable[[Points], Mask]  # maps a non-empty text to whether a piece begins at each character

SEPARATOR = "\ud800"  # a lone surrogate: valid text cannot hold it

_OTHER, _LETTER, _NUMBER, _WHITE, _SEPARATOR = range(5)
_WHITE_SPACE = (
    *range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000,
)  # fmt: skip
_ASCII, _BASIC = 1 << 7, 1 << 16
_APOSTROPHE, _SPACE, _CR, _LF, _LONG_S = ord("'"), ord(" "), ord("\r"), ord("\n"), 0x17F


def gpt2(points: Points, *, single_digits: bool = False) -> Mask:
    """Pattern of GPT-2; with `single_digits` that of SmolLM, which first splits off every digit."""
    classes = _classes(points)
    begins = _changes(classes)
    # A run after white space begins with the last white-space character.
    word = begins[1:] & (classes[:-1] == _WHITE) & (classes[1:] != _SEPARATOR)
    if single_digits:
        numbers = classes == _NUMBER
        begins |= numbers
        word &= ~numbers[1:]
    begins[:-1] |= word
    begins[1:] &= ~(word & (points[:-1] == _SPACE))  # a space and the run after it are one piece
    _split_contractions(points, begins, points)
    return begins


def gpt4(points: Points, *, digits: int = 3, ends_whole: bool = True) -> Mask:
    """Pattern of GPT-4, or of Llama-3 and Qwen2.

    Parameters
    ----------
    points : ndarray of uint8 or uint32, shape (T,)
    digits : int
        The most digits of one piece.
    ends_whole : bool
        Whether white space at the end of the text is one piece, as in GPT-4. In Llama-3 its line ends are split off.
    """
    classes = _classes(points)
    begins = _changes(classes)
    letters, others = classes == _LETTER, classes == _OTHER

    first, stop = _runs(classes == _WHITE)
    ends_text = np.append(classes, _SEPARATOR)[stop] == _SEPARATOR
    tail = first  # the part of a run of white space after its last line end
    newlines = (points == _LF) | (points == _CR)
    _, line_ends = _runs(newlines)
    if len(line_ends):
        begins[first] = False
        after_others = (
            newlines[first] & (first > 0) & others[first - 1]
        )  # these line ends belong to the preceding piece
        next_end = line_ends[line_ends.searchsorted(first, side="right").clip(max=len(line_ends) - 1)]
        first = np.where(after_others, next_end, first)
        last_end = line_ends[(line_ends.searchsorted(stop, side="right") - 1).clip(min=0)]
        tail = np.where((first < last_end) & (last_end <= stop), last_end, first)
        if ends_whole:
            tail = np.where(ends_text, first, tail)
        begins[first[first < stop]] = True
        begins[tail[tail < stop]] = True
    end = stop[(tail < stop) & ~ends_text]
    begins[end - 1] = True  # the last character begins a piece: any joins letters, a space joins all but numbers
    begins[end] = ~(letters[end] | (others[end] & (points[end - 1] == _SPACE)))

    first, stop = _runs(classes == _NUMBER)
    numbers = (classes == _NUMBER).nonzero()[0]
    begins[numbers] = (numbers - np.repeat(first, stop - first)) % digits == 0

    alone = (begins[:-1] & others[:-1] & letters[1:]).nonzero()[
        0
    ]  # a single other character joins the letters after it
    begins[alone + 1] = False
    folded = np.where((points >= ord("A")) & (points <= ord("Z")), points + 32, points)
    folded[points == _LONG_S] = ord("s")
    _split_contractions(points, begins, folded)
    return begins


def _split_contractions(points: Points, begins: Mask, lower: Points) -> None:
    """Split after 's, 't, 'd, 'm, 're, 've and 'll where a piece begins with them, and not before their letters."""
    size = len(points)
    marks = (begins & (points == _APOSTROPHE)).nonzero()[0]
    marks = marks[marks + 1 < size]
    first, second = lower[marks + 1], lower[np.minimum(marks + 2, size - 1)]
    one = _any_of("sdmt", first)
    two = (_any_of("rv", first) & (second == ord("e"))) | ((first == ord("l")) & (second == ord("l")))
    two &= marks + 2 < size
    begins[marks[one | two] + 1] = False
    after = np.concatenate((marks[one] + 2, marks[two] + 3))
    begins[after[after < size]] = True


def _any_of(characters: str, points: Points) -> Mask:
    found: Mask = np.logical_or.reduce([points == ord(character) for character in characters])
    return found


def _changes(classes: NDArray[np.uint8]) -> Mask:
    """Return a mask of the first character of each run of one class; a separator is a run of its own."""
    starts = np.ones(len(classes), dtype=np.bool_)
    np.not_equal(classes[1:], classes[:-1], out=starts[1:])
    starts |= classes == _SEPARATOR
    return starts


def _runs(inside: Mask) -> tuple[IntArray, IntArray]:
    """Return the starts and the stops of the runs of true values."""
    edges = np.diff(inside, prepend=False, append=False).nonzero()[0]
    return edges[::2], edges[1::2]


def _classes(points: Points) -> NDArray[np.uint8]:
    """Return the class of each character."""
    if points.dtype == np.uint8:
        return _class_table(_ASCII)[points]
    classes = _class_table(_BASIC)[np.minimum(points, _BASIC - 1)]
    beyond = (points >= _BASIC).nonzero()[0]
    if len(beyond):
        classes[beyond] = [_class(point) for point in points[beyond].tolist()]
    return classes


@functools.cache
def _class_table(number: int) -> NDArray[np.uint8]:
    """Return the classes of the first `number` code points, shape (number,)."""
    categories = "".join(map(unicodedata.category, map(chr, range(number)))).encode()
    major = np.frombuffer(categories, dtype=np.uint8)[::2]
    classes = np.full(number, _OTHER, dtype=np.uint8)
    classes[major == ord("L")] = _LETTER
    classes[major == ord("N")] = _NUMBER
    classes[[point for point in _WHITE_SPACE if point < number]] = _WHITE
    classes[ord(SEPARATOR) :][:1] = _SEPARATOR
    return classes


@functools.lru_cache(maxsize=1 << 14)
def _class(point: int) -> int:
    """Return the class of a character outside the Basic Multilingual Plane, which holds all white space."""
    return {"L": _LETTER, "N": _NUMBER}.get(unicodedata.category(chr(point))[0], _OTHER)
