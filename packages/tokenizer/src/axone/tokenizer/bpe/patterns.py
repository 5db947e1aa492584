r"""Pre-tokenization: splits text into pieces that merges never cross.

A pattern is a regular expression whose matches are the pieces. Text between matches is a piece too, so that no text
is lost. The patterns of GPT-2, GPT-4, Llama-3, Qwen2 and SmolLM have vectorized implementations in
`vectorized_patterns`, many times faster than any regular expression engine. Any other pattern runs in the package
`regex` under a time limit, because a pattern from an untrusted file may need exponential time.

References
----------
.. [1] A. Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2), section 2.2,
   https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
.. [2] The patterns as tiktoken writes them, https://github.com/openai/tiktoken
.. [3] regex, https://github.com/mrabarnett/mrab-regex
"""

import functools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np

from axone.tokenizer.bpe import vectorized_patterns
from axone.tokenizer.bpe.flat_words import IntArray
from axone.tokenizer.bpe.piece_table import Points
from axone.tokenizer.bpe.vectorized_patterns import SEPARATOR
from axone.tokenizer.errors import TokenizerError

if TYPE_CHECKING:
    import regex

    from axone.tokenizer.bpe.regex_parser import Dialect

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
# Every digit is split off first, then GPT-2's pattern applies: a space before a digit ends its piece.
SMOLLM = GPT2.replace(r" ?\p{N}+", r"\p{N}").replace(r"(?!\S)", r"(?![^\s\p{N}])")

NAMES = {"gpt2": GPT2, "gpt4": GPT4}

# Other spellings of the same patterns, as files and other libraries have them.
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

_VECTORIZED: dict[str, vectorized_patterns.VectorizedPattern] = {
    GPT2: vectorized_patterns.gpt2,
    GPT4: vectorized_patterns.gpt4,
    LLAMA3: functools.partial(vectorized_patterns.gpt4, ends_whole=False),
    QWEN2: functools.partial(vectorized_patterns.gpt4, digits=1, ends_whole=False),
    SMOLLM: functools.partial(vectorized_patterns.gpt2, single_digits=True),
}

_BLOCK = 1 << 16  # characters: the arrays of a block fit into the processor's cache
_SECONDS, _SECONDS_PER_CHARACTER = 2.0, 1e-5


class PreTokenizer(Protocol):
    """Splits text into pieces whose concatenation is the text. `SEPARATOR` is a piece of its own."""

    @property
    def pattern(self) -> str | None:
        """Regular expression that files and other libraries take; None keeps a text whole."""
        ...

    def blocks(self, text: str) -> Iterator[str]:
        """Divide a long text into non-empty blocks at ends of pieces, so that each block can be split alone."""
        ...

    def split(self, block: str, points: Points) -> IntArray:
        """Return the starts of the pieces of a block, the first at 0, given the block and its code points."""
        ...


def portable_pattern(source: str, dialect: "Dialect") -> str:
    """Return the pattern of a model: a known pattern if the source equals one, otherwise the source made portable.

    Parameters
    ----------
    source : str
        A regular expression.
    dialect : {"oniguruma", "fancy-regex", "regex"}
        The engine for which it was written.

    Raises
    ------
    TokenizerError
        If it is not a regular expression, or not one that all engines read alike.
    """
    if source in _VECTORIZED:
        return source
    if source in _SPELLINGS and not (dialect == "oniguruma" and "}+" in source):  # not possessive there
        return _SPELLINGS[source]
    from axone.tokenizer.bpe.portable_regex import to_portable  # 8 ms, not needed for a known pattern

    return to_portable(source, dialect)


def pre_tokenizer(pattern: str | None) -> PreTokenizer:
    """Return the pre-tokenizer of the pattern of a model.

    Raises
    ------
    TokenizerError
        If it is not a portable regular expression.
    """
    if pattern is None:
        return WholeTextSplitter()
    return VectorizedSplitter(pattern) if pattern in _VECTORIZED else RegexSplitter(pattern)


class WholeTextSplitter:
    """Pre-tokenizer without a pattern: a text is one piece."""

    pattern = None

    def blocks(self, text: str) -> Iterator[str]:
        """Divide between texts."""
        return divide(text, _AT_SEPARATOR)

    def split(self, block: str, points: Points) -> IntArray:
        """Return the starts of texts."""
        del block
        separators = (points == ord(SEPARATOR)).nonzero()[0]
        return _starts(np.concatenate((separators, separators + 1)), len(points))


class VectorizedSplitter:
    """Pre-tokenizer for a known pattern, in linear time.

    The known patterns match all text, and no piece holds a space after a character that is not white space.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern: str | None = pattern
        self._begins = _VECTORIZED[pattern]

    def blocks(self, text: str) -> Iterator[str]:
        """Divide before a space that does not follow white space: every known pattern begins a piece there."""
        return divide(text, _AT_SEPARATOR_OR_SPACE)

    def split(self, block: str, points: Points) -> IntArray:
        """Return the starts of pieces."""
        del block
        starts: IntArray = self._begins(points).nonzero()[0]
        return starts


class RegexSplitter:
    """Pre-tokenizer for any other pattern, which runs in `regex`.

    Its time limit is 2 s plus 10 s per million characters.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern: str | None = pattern
        self._compiled = _compile(pattern)

    def blocks(self, text: str) -> Iterator[str]:
        """Divide between texts."""
        return divide(text, _AT_SEPARATOR)

    def split(self, block: str, points: Points) -> IntArray:
        """Return the starts of matches and of the text between them.

        Raises
        ------
        TokenizerError
            If the pattern runs past its time limit.
        """
        bounds: list[IntArray] = []
        offset = 0
        for text in block.split(SEPARATOR):
            seconds = _SECONDS + len(text) * _SECONDS_PER_CHARACTER
            try:
                bounds += (np.array([offset, offset + len(text)]), offset + self._bounds(text, seconds))
            except TimeoutError:
                raise TokenizerError(
                    f"pattern {_shown(self.pattern)} took more than {seconds:.1f} s for a text of {len(text)} "
                    "characters: it backtracks "
                    "too much and must be written with possessive quantifiers"
                ) from None
            offset += len(text) + 1
        return _starts(np.concatenate(bounds), len(points))

    def _bounds(self, text: str, seconds: float) -> IntArray:
        """Return the starts and stops of matches."""
        if not self._compiled.groups:
            found = self._compiled.findall(text, timeout=seconds)  # several times as fast as `finditer`
            lengths = np.fromiter(map(len, found), np.int64, len(found))
            if lengths.sum() == len(text):  # no gaps: each match starts at the end of the previous one
                return lengths.cumsum()
        spans = [match.span() for match in self._compiled.finditer(text, timeout=seconds)]
        return np.array(spans, dtype=np.int64).ravel()


def _starts(bounds: IntArray, size: int) -> IntArray:
    """Return the distinct bounds below `size`, and 0, in ascending order."""
    begins = np.zeros(size + 1, dtype=np.bool_)
    begins[bounds] = True
    begins[0] = True
    return begins[:size].nonzero()[0]


def divide(text: str, boundary: re.Pattern[str]) -> Iterator[str]:
    """Divide a long text into non-empty blocks that begin at matches of `boundary`."""
    start = 0
    while len(text) - start > _BLOCK and (found := boundary.search(text, start + _BLOCK)):
        yield text[start : found.start()]
        start = found.start()
    if start < len(text):
        yield text[start:]


_AT_SEPARATOR = re.compile(SEPARATOR)
_AT_SEPARATOR_OR_SPACE = re.compile(rf"(?<=\S) |{SEPARATOR}")  # the white space of `re` includes that of Unicode


def code_points(text: str) -> Points:
    """Return the code points of a text, shape (T,)."""
    if text.isascii():
        return np.frombuffer(text.encode(), dtype=np.uint8)
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype="<u4")


@functools.lru_cache(maxsize=64)
def _compile(pattern: str) -> "regex.Pattern[str]":
    import regex  # 40 ms, not needed for a known pattern

    from axone.tokenizer.bpe.portable_regex import to_regex

    return regex.compile(to_regex(pattern), regex.V1)


def _shown(pattern: str | None) -> str:
    text = repr(pattern)
    return text if len(text) <= 80 else text[:77] + "..."
