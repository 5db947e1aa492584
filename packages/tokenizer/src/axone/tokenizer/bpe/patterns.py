r"""Pre-tokenization: cutting text into the pieces that byte pair merges never cross.

A pattern is a regular expression whose matches, one after another, are the pieces; text between matches is a piece too, so
that nothing is ever lost. The patterns of GPT-2, GPT-4, Llama-3, Qwen2 and SmolLM are known here by what they say, and run
in Python's own `re`, more than twice as fast as in `regex`: their classes ``\p{L}``, ``\p{N}`` and ``\s`` are written out
as ranges. (Letters and numbers beyond the Basic Multilingual Plane go to `regex`: `re` is slow with ranges there.) Any other pattern is run by `regex` under a time limit, because one that came
with a file may backtrack for years.

Nothing here knows of tokens or merges.

Sources: A. Radford et al., *Language Models are Unsupervised Multitask Learners* (GPT-2), section 2.2,
https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf; the patterns as
tiktoken writes them, https://github.com/openai/tiktoken; `regex`, https://github.com/mrabarnett/mrab-regex.
"""

import functools
import re
import unicodedata
import warnings
from collections.abc import Iterator
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Protocol

from axone.tokenizer.protocol import TokenizerError

if TYPE_CHECKING:
    import regex

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s"
GPT4 = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace("{1,3}", "")
# Digits one by one first, then GPT-2's: a space before a digit is the end of its piece.
SMOLLM = GPT2.replace(r" ?\p{N}+", r"\p{N}").replace(r"(?!\S)", r"(?![^\s\p{N}])")

NAMES = {"gpt2": GPT2, "gpt4": GPT4}

# Other spellings of the same rules, as files and other libraries have them.
_SPELLINGS = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": GPT2,
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": GPT2,
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": GPT2,
    r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s": GPT2,
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
    r"|\s+(?!\S)|\s": GPT4,
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]"
    r"|\s+(?!\S)|\s+": LLAMA3,
} | {known: known for known in (GPT2, GPT4, LLAMA3, QWEN2, SMOLLM)}

_BLOCK = 1 << 16  # characters: the pieces of a block stay in the processor's cache
_MAX_PATTERN = 10_000  # characters
_SECONDS, _SECONDS_PER_CHARACTER = 2.0, 1e-5


class PreTokenizer(Protocol):
    """Cuts text into pieces whose concatenation is the text."""

    @property
    def pattern(self) -> str | None:
        """The regular expression as files and other libraries take it; None keeps text whole."""
        ...

    def blocks(self, text: str) -> Iterator[str]:
        """Cut a long text where pieces end, so that its blocks can be split one by one."""
        ...

    def split(self, text: str) -> list[str]:
        """Return the pieces of a text or a block, none of them empty."""
        ...


def pre_tokenizer(pattern: str | None) -> PreTokenizer:
    """Return the pre-tokenizer of a pattern.

    Parameters
    ----------
    pattern : str or None
        ``"gpt2"``, ``"gpt4"``, a regular expression in the syntax of `regex`, or None for none.

    Raises
    ------
    TokenizerError
        If it is no regular expression.
    """
    if pattern is None:
        return WholeText()
    pattern = NAMES.get(pattern, pattern)
    return KnownPattern(_SPELLINGS[pattern]) if pattern in _SPELLINGS else CustomPattern(pattern)


class WholeText:
    """No pre-tokenization: a text is one piece."""

    pattern = None

    def blocks(self, text: str) -> Iterator[str]:
        """Return the text."""
        yield text

    def split(self, text: str) -> list[str]:
        """Return the text as the one piece."""
        return [text] if text else []


class KnownPattern:
    """One of the patterns above, which match everything, in linear time, and never a space inside a piece."""

    def __init__(self, pattern: str) -> None:
        self.pattern: str | None = pattern
        self._source = pattern

    def blocks(self, text: str) -> Iterator[str]:
        """Cut before a space that follows no white space: there, every known pattern begins a piece."""
        start = 0
        while len(text) - start > _BLOCK and (cut := _CUT.search(text, start + _BLOCK)):
            yield text[start : cut.start()]
            start = cut.start()
        if start < len(text):
            yield text[start:] if start else text

    def split(self, text: str) -> list[str]:
        """Return the pieces of a text."""
        pieces: list[str]
        if text.isascii():
            pieces = _compile_ascii(self._source).findall(text)
        elif _only_basic_words(text):
            pieces = _compile_basic(self._source).findall(text)
        else:
            pieces = _compile_regex(self._source).findall(text)
        return pieces


class CustomPattern:
    """A pattern that nothing is known of: run by `regex` under a time limit of 2 s and 10 s for each million characters."""

    def __init__(self, pattern: str) -> None:
        self.pattern: str | None = pattern
        self._compiled = _compile_regex(pattern)

    def blocks(self, text: str) -> Iterator[str]:
        """Return the text: nothing is known of where it may be cut."""
        yield text

    def split(self, text: str) -> list[str]:
        """Return the matches and, where the pattern leaves a gap, what stands between them.

        Raises
        ------
        TokenizerError
            If the pattern runs past its time limit.
        """
        seconds = _SECONDS + len(text) * _SECONDS_PER_CHARACTER
        try:
            if not self._compiled.groups:
                pieces: list[str] = self._compiled.findall(text, timeout=seconds)
                if all(pieces) and sum(map(len, pieces)) == len(text):
                    return pieces
            bounds = [0]
            for match in self._compiled.finditer(text, timeout=seconds):
                bounds += match.span()
        except TimeoutError:
            raise TokenizerError(
                f"The pattern {_shown(self.pattern)} must split a text of {len(text)} characters within {seconds:.1f} "
                "seconds, but ran longer; it backtracks too much, so write it with possessive quantifiers."
            ) from None
        bounds.append(len(text))
        return [text[start:stop] for start, stop in pairwise(bounds) if start < stop]


_CUT = re.compile(r"(?<=\S) ")  # what `re` takes for white space includes all that `regex` does


def _only_basic_words(text: str) -> bool:
    """Tell whether all letters and numbers of a text are in the Basic Multilingual Plane, as `_compile_basic` assumes."""
    return not any(unicodedata.category(character)[0] in "LN" for character in set(_BEYOND.findall(text)))


_BEYOND = re.compile("[\U00010000-\U0010ffff]")
_ASCII = {"L": "A-Za-z", "N": "0-9", "s": r"\t-\r "}
_WHITE = "\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"  # of all Unicode, with the six of ASCII


@functools.cache
def _compile_ascii(pattern: str) -> re.Pattern[str]:
    return _compile_re(pattern, _ASCII)


@functools.cache
def _compile_basic(pattern: str) -> re.Pattern[str]:
    """Compile a known pattern for `re` with its classes written out over the Basic Multilingual Plane."""
    ranges = _ASCII | {"s": _ASCII["s"] + _WHITE}
    points = range(0x80, 0x10000)
    for kind, run in groupby(points, key=lambda point: unicodedata.category(chr(point))[0]):
        if kind in "LN":
            members = list(run)
            ranges[kind] += f"{chr(members[0])}-{chr(members[-1])}"
    return _compile_re(pattern, ranges)


def _compile_re(pattern: str, ranges: dict[str, str]) -> re.Pattern[str]:
    """Compile a known pattern for `re`, whose own white space is wider and which has no properties."""

    def write_out(match: re.Match[str]) -> str:
        part = match.group()
        if part == r"\S":
            return f"[^{ranges['s']}]"
        written = _CLASS.sub(lambda inner: ranges[inner[1] or "s"], part)
        return written if part.startswith("[") else f"[{written}]"

    return re.compile(_CLASS_OR_SET.sub(write_out, pattern))


_CLASS = re.compile(r"\\p\{([LN])\}|\\s")
_CLASS_OR_SET = re.compile(r"\[[^]]+\]|\\p\{[LN]\}|\\[sS]")


@functools.lru_cache(maxsize=64)
def _compile_regex(pattern: str) -> "regex.Pattern[str]":
    import regex  # 30 ms: not needed for ASCII text and a known pattern

    if len(pattern) > _MAX_PATTERN:
        raise TokenizerError(
            f"A pattern must be at most {_MAX_PATTERN} characters long, but this one has {len(pattern)}."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return regex.compile(pattern)
    except (regex.error, RecursionError, OverflowError, MemoryError) as error:
        raise TokenizerError(f"The pattern {_shown(pattern)} is no regular expression: {error}.") from None


def _shown(pattern: str | None) -> str:
    text = repr(pattern)
    return text if len(text) <= 80 else text[:77] + "..."
