r"""The known patterns as array arithmetic: where pieces begin, for a whole text at once.

A regular expression walks through a text; the patterns of GPT-2 and GPT-4 only say where kinds of characters meet: letters, numbers, white
space and the rest. So the kind of every character is looked up, pieces begin where it changes, and what the patterns say beyond
that is done at the few places that it concerns: a space joins the word after it, contractions are cut off, long numbers and line ends are
cut up. The tests hold each rule equal to its regular expression.

Several texts can be done at once, with `BREAK` between them: it ends one text and is a piece of its own.

Letters and numbers are Unicode's categories L and N as this Python has them, white space its property of that name.

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

from axone.tokenizer.bpe.flat import IntArray
from axone.tokenizer.bpe.pieces import Points

Mask = NDArray[np.bool_]
Rule = Callable[[Points], Mask]  # from a text, not empty, to whether a piece begins at each of its characters

BREAK = "\ud800"  # half a surrogate pair: no valid text has it

_OTHER, _LETTER, _NUMBER, _WHITE, _BREAK = range(5)
_WHITE_SPACE = (
    *range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000,
)  # fmt: skip
_ASCII, _BASIC = 1 << 7, 1 << 16
_APOSTROPHE, _SPACE, _CR, _LF, _LONG_S = ord("'"), ord(" "), ord("\r"), ord("\n"), 0x17F


def gpt2(points: Points, *, single_digits: bool = False) -> Mask:
    """GPT-2's rule; with `single_digits` that of SmolLM, whose numbers are cut out digit by digit before all else."""
    kinds = _kinds(points)
    begins = _changes(kinds)
    # A run after white space, from which it takes the last character.
    word = begins[1:] & (kinds[:-1] == _WHITE) & (kinds[1:] != _BREAK)
    if single_digits:
        numbers = kinds == _NUMBER
        begins |= numbers
        word &= ~numbers[1:]
    begins[:-1] |= word
    begins[1:] &= ~(word & (points[:-1] == _SPACE))  # together with it if that is a space
    _cut_contractions(points, begins, points)
    return begins


def gpt4(points: Points, *, digits: int = 3, ends_whole: bool = True) -> Mask:
    """GPT-4's rule: numbers of so many digits, and white space that ends the text whole; in Llama-3 lines come off it."""
    kinds = _kinds(points)
    begins = _changes(kinds)
    letters, others = kinds == _LETTER, kinds == _OTHER

    first, stop = _runs(kinds == _WHITE)
    ends_text = np.append(kinds, _BREAK)[stop] == _BREAK
    tail = first  # what follows the last line end of a run of white space
    newlines = (points == _LF) | (points == _CR)
    _, line_ends = _runs(newlines)
    if len(line_ends):
        begins[first] = False
        after_others = newlines[first] & (first > 0) & others[first - 1]  # these line ends belong to the piece before
        next_end = line_ends[line_ends.searchsorted(first, side="right").clip(max=len(line_ends) - 1)]
        first = np.where(after_others, next_end, first)
        last_end = line_ends[(line_ends.searchsorted(stop, side="right") - 1).clip(min=0)]
        tail = np.where((first < last_end) & (last_end <= stop), last_end, first)
        if ends_whole:
            tail = np.where(ends_text, first, tail)
        begins[first[first < stop]] = True
        begins[tail[tail < stop]] = True
    end = stop[(tail < stop) & ~ends_text]
    begins[end - 1] = True  # the last character stands apart: any joins letters, a space all but numbers
    begins[end] = ~(letters[end] | (others[end] & (points[end - 1] == _SPACE)))

    first, stop = _runs(kinds == _NUMBER)
    numbers = (kinds == _NUMBER).nonzero()[0]
    begins[numbers] = (numbers - np.repeat(first, stop - first)) % digits == 0

    alone = (begins[:-1] & others[:-1] & letters[1:]).nonzero()[0]  # any one other character joins the letters after it
    begins[alone + 1] = False
    folded = np.where((points >= ord("A")) & (points <= ord("Z")), points + 32, points)
    folded[points == _LONG_S] = ord("s")
    _cut_contractions(points, begins, folded)
    return begins


def _cut_contractions(points: Points, begins: Mask, lower: Points) -> None:
    """Cut after 's, 't, 'd, 'm, 're, 've and 'll where a piece begins with them, and not before their letters."""
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


def _changes(kinds: NDArray[np.uint8]) -> Mask:
    """Tell where runs of one kind start; a break is a run alone."""
    starts = np.ones(len(kinds), dtype=np.bool_)
    np.not_equal(kinds[1:], kinds[:-1], out=starts[1:])
    starts |= kinds == _BREAK
    return starts


def _runs(inside: Mask) -> tuple[IntArray, IntArray]:
    """Return where runs of true start and stop."""
    edges = np.diff(inside, prepend=False, append=False).nonzero()[0]
    return edges[::2], edges[1::2]


def _kinds(points: Points) -> NDArray[np.uint8]:
    """Return the kind of each character."""
    if points.dtype == np.uint8:
        return _first_kinds(_ASCII)[points]
    kinds = _first_kinds(_BASIC)[np.minimum(points, _BASIC - 1)]
    beyond = (points >= _BASIC).nonzero()[0]
    if len(beyond):
        kinds[beyond] = [_kind(point) for point in points[beyond].tolist()]
    return kinds


@functools.cache
def _first_kinds(number: int) -> NDArray[np.uint8]:
    """The kinds of the first so many characters of Unicode, shape (number,)."""
    categories = "".join(map(unicodedata.category, map(chr, range(number)))).encode()
    major = np.frombuffer(categories, dtype=np.uint8)[::2]
    kinds = np.full(number, _OTHER, dtype=np.uint8)
    kinds[major == ord("L")] = _LETTER
    kinds[major == ord("N")] = _NUMBER
    kinds[[point for point in _WHITE_SPACE if point < number]] = _WHITE
    kinds[ord(BREAK) :][:1] = _BREAK
    return kinds


@functools.lru_cache(maxsize=1 << 14)
def _kind(point: int) -> int:
    """Return the kind of a character beyond the Basic Multilingual Plane, where there is no white space."""
    return {"L": _LETTER, "N": _NUMBER}.get(unicodedata.category(chr(point))[0], _OTHER)
