r"""Pre-tokenization: cutting text into the pieces that byte pair merges never cross.

A pattern is a regular expression whose matches, one after another, are the pieces; text between matches is a piece too, so
that nothing is ever lost. The patterns of GPT-2, GPT-4, Llama-3, Qwen2 and SmolLM are known here by what they say, and are done by `rules`,
many times faster than by any regular expression. Any other pattern is run by the package `regex` under a time limit, because one that
came with a file may backtrack for years.

Nothing here knows of tokens or merges.

References
----------
.. [1] A. Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2), section 2.2,
   https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
.. [2] The patterns as tiktoken writes them, https://github.com/openai/tiktoken
.. [3] regex, https://github.com/mrabarnett/mrab-regex
"""

import functools
import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from axone.tokenizer.bpe import rules
from axone.tokenizer.bpe.flat import IntArray
from axone.tokenizer.bpe.pieces import Points
from axone.tokenizer.bpe.rules import BREAK
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
}

_RULES: dict[str, rules.Rule] = {
    GPT2: rules.gpt2,
    GPT4: rules.gpt4,
    LLAMA3: functools.partial(rules.gpt4, ends_whole=False),
    QWEN2: functools.partial(rules.gpt4, digits=1, ends_whole=False),
    SMOLLM: functools.partial(rules.gpt2, single_digits=True),
}

_BLOCK = 1 << 16  # characters: what is computed for a block stays in the processor's cache
_MAX_PATTERN = 10_000  # characters
_SECONDS, _SECONDS_PER_CHARACTER = 2.0, 1e-5


class PreTokenizer(Protocol):
    """Cuts text into pieces whose concatenation is the text. `BREAK` ends one text of several, and is a piece."""

    @property
    def pattern(self) -> str | None:
        """The regular expression as files and other libraries take it; None keeps text whole."""
        ...

    def blocks(self, text: str) -> Iterator[str]:
        """Cut a long text where pieces end, so that its blocks can be cut one by one; none is empty."""
        ...

    def cut(self, block: str, points: Points) -> IntArray:
        """Return where the pieces of a block start, the first at 0, given the block also as code points."""
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
    pattern = _SPELLINGS.get(pattern, pattern)
    return KnownPattern(pattern) if pattern in _RULES else CustomPattern(pattern)


class WholeText:
    """No pre-tokenization: a text is one piece."""

    pattern = None

    def blocks(self, text: str) -> Iterator[str]:
        """Cut between texts."""
        return _blocks(text, _BETWEEN)

    def cut(self, block: str, points: Points) -> IntArray:
        """Return where texts start."""
        del block
        breaks = (points == ord(BREAK)).nonzero()[0]
        return _starts(np.concatenate((breaks, breaks + 1)), len(points))


class KnownPattern:
    """One of the patterns above, which match everything, in linear time, and never a space after another character."""

    def __init__(self, pattern: str) -> None:
        self.pattern: str | None = pattern
        self._rule = _RULES[pattern]

    def blocks(self, text: str) -> Iterator[str]:
        """Cut before a space that follows no white space: there, every known pattern begins a piece."""
        return _blocks(text, _BETWEEN_OR_BEFORE_SPACE)

    def cut(self, block: str, points: Points) -> IntArray:
        """Return where pieces start by the pattern's rule."""
        del block
        starts: IntArray = self._rule(points).nonzero()[0]
        return starts


class CustomPattern:
    """A pattern that nothing is known of: run by `regex` under a time limit of 2 s and 10 s for each million characters."""

    def __init__(self, pattern: str) -> None:
        self.pattern: str | None = pattern
        self._compiled = _compile(pattern)

    def blocks(self, text: str) -> Iterator[str]:
        """Cut between texts."""
        return _blocks(text, _BETWEEN)

    def cut(self, block: str, points: Points) -> IntArray:
        """Return where matches start and, where the pattern leaves a gap, what stands between them.

        Raises
        ------
        TokenizerError
            If the pattern runs past its time limit.
        """
        bounds: list[IntArray] = []
        offset = 0
        for text in block.split(BREAK):
            seconds = _SECONDS + len(text) * _SECONDS_PER_CHARACTER
            try:
                bounds += (np.array([offset, offset + len(text)]), offset + self._bounds(text, seconds))
            except TimeoutError:
                raise TokenizerError(
                    f"The pattern {_shown(self.pattern)} must cut a text of {len(text)} characters within {seconds:.1f} seconds, "
                    "but ran longer; it backtracks too much, so write it with possessive quantifiers."
                ) from None
            offset += len(text) + 1
        return _starts(np.concatenate(bounds), len(points))

    def _bounds(self, text: str, seconds: float) -> IntArray:
        """Return where matches start and stop."""
        if not self._compiled.groups:
            found = self._compiled.findall(
                text, timeout=seconds
            )  # several times as fast as one match object after another
            lengths = np.fromiter(map(len, found), np.int64, len(found))
            if lengths.sum() == len(text):  # no gaps: each starts where the one before stops
                return lengths.cumsum()
        spans = [match.span() for match in self._compiled.finditer(text, timeout=seconds)]
        return np.array(spans, dtype=np.int64).ravel()


def _starts(bounds: IntArray, size: int) -> IntArray:
    """Return the places that bounds name, and 0, in order."""
    begins = np.zeros(size + 1, dtype=np.bool_)
    begins[bounds] = True
    begins[0] = True
    return begins[:size].nonzero()[0]


def _blocks(text: str, places: re.Pattern[str]) -> Iterator[str]:
    start = 0
    while len(text) - start > _BLOCK and (place := places.search(text, start + _BLOCK)):
        yield text[start : place.start()]
        start = place.start()
    if start < len(text):
        yield text[start:]


_BETWEEN = re.compile(BREAK)
_BETWEEN_OR_BEFORE_SPACE = re.compile(
    rf"(?<=\S) |{BREAK}"
)  # what is white space to `re` includes all that is to Unicode


def code_points(text: str) -> Points:
    """Return the code points of text as an array, shape (T,)."""
    if text.isascii():
        return np.frombuffer(text.encode(), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")


@functools.lru_cache(maxsize=64)
def _compile(pattern: str) -> "regex.Pattern[str]":
    import regex  # 40 ms: not needed for a known pattern

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
