"""Training pipeline: texts are split into pieces, the pieces are counted, and merges are trained from the counts.

Memory grows with the number of distinct pieces, not with the corpus. A corpus that takes longer than the start of
worker processes is counted by one worker per core.

References
----------
.. [1] R. Sennrich, B. Haddow, A. Birch, "Neural Machine Translation of Rare Words with Subword Units",
   https://arxiv.org/abs/1508.07909
"""

import contextlib
import functools
import operator
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from axone.tokenizer.bpe.counting import PieceCounter
from axone.tokenizer.bpe.counting_workers import CountingWorkers
from axone.tokenizer.bpe.flat_words import IntArray
from axone.tokenizer.bpe.model import BPEModel
from axone.tokenizer.bpe.patterns import NAMES, PreTokenizer, portable_pattern, pre_tokenizer
from axone.tokenizer.bpe.special_tokens import token_pattern
from axone.tokenizer.bpe.train_merges import NUM_BYTES, train_merges
from axone.tokenizer.bpe.vectorized_patterns import SEPARATOR
from axone.tokenizer.errors import TokenizerError, check_text

_JOINED = 1 << 16  # characters: shorter texts are joined
_LOCAL_SECONDS = (
    2.0  # counting time in this process before workers are started; their start takes a fraction of a second
)


def train_model(
    texts: str | Iterable[str],
    vocab_size: int,
    *,
    pattern: str | None,
    special_tokens: Sequence[str],
    progress: Callable[[int, int], object] | None,
) -> BPEModel:
    """Train a model on texts; see `BPETokenizer.train`."""
    names: Sequence[object] = special_tokens
    if (
        isinstance(names, str)
        or not all(isinstance(name, str) and name for name in names)
        or len(set(names)) < len(names)
    ):
        raise TokenizerError(f"special_tokens ({special_tokens!r}) must be a list of distinct, non-empty strings")
    if pattern is not None and pattern not in NAMES and re.fullmatch(r"[\w-]*", pattern):
        raise TokenizerError(
            f'pattern ({pattern!r:.60}) matches only itself: it must be "gpt2", "gpt4", None or a regular expression that '
            "splits text"
        )
    num_merges = operator.index(vocab_size) - NUM_BYTES - len(special_tokens)
    if num_merges < 0:
        raise TokenizerError(
            f"vocab_size ({vocab_size}) must be at least {NUM_BYTES + len(special_tokens)}, for {NUM_BYTES} bytes and "
            f"{len(special_tokens)} special tokens"
        )
    if pattern is not None:
        pattern = NAMES.get(pattern) or portable_pattern(pattern, "regex")
    splitter = pre_tokenizer(pattern)
    pieces, counts = count_pieces(
        [texts] if isinstance(texts, str) else texts,
        splitter,
        separators=special_tokens,
        on_progress=progress and functools.partial(progress, 0, num_merges),
    )
    merges = train_merges(pieces, counts, num_merges, progress)
    tokens = [bytes((byte,)) for byte in range(NUM_BYTES)]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return BPEModel(
        vocabulary={token: id for id, token in enumerate(tokens)},
        merges=merges,
        pattern=pattern,
        special_tokens={text: id for id, text in enumerate(special_tokens, len(tokens))},
    )


def count_pieces(
    texts: Iterable[str],
    splitter: PreTokenizer,
    *,
    separators: Iterable[str] = (),
    on_progress: Callable[[], object] | None = None,
) -> tuple[list[bytes], IntArray]:
    """Count the distinct pieces of texts.

    Parameters
    ----------
    texts : iterable of str
        Read once, one after another. Pieces do not cross from one text to the next.
    splitter : PreTokenizer
        Splits a text into pieces.
    separators : iterable of str
        Special tokens: they are removed, and pieces do not cross them.
    on_progress : callable, optional
        Called without arguments after each group of texts.

    Returns
    -------
    pieces : list of bytes
        The distinct pieces in UTF-8.
    counts : ndarray of int64, shape (U,)
        The number of occurrences of each.
    """
    counter = PieceCounter(splitter)
    workers: CountingWorkers | None = None
    start = time.thread_time()
    with contextlib.ExitStack() as stack:
        for joined in _join_short(_split_at(texts, separators)):
            for block in splitter.blocks(joined):
                if workers is None and time.thread_time() - start > _LOCAL_SECONDS:
                    workers = stack.enter_context(CountingWorkers(splitter.pattern))
                if workers:
                    workers.count(block)
                else:
                    counter.count(block)
            if on_progress is not None:
                on_progress()
        for counts in workers.results() if workers else ():
            counter.add(counts)
    return counter.pieces()


def _split_at(texts: Iterable[str], separators: Iterable[str]) -> Iterator[str]:
    """Check texts and split them at the separators, which are removed."""
    pattern = token_pattern(frozenset(separators))
    for text in texts:
        check_text(text)
        if pattern is None:
            yield text
        else:
            yield from pattern.split(text)


def _join_short(texts: Iterable[str]) -> Iterator[str]:
    """Join short texts with separators between them, because array operations need many characters at once."""
    gathered: list[str] = []
    size = 0
    for text in texts:
        gathered.append(text)
        size += len(text)
        if size >= _JOINED:
            yield SEPARATOR.join(gathered)
            gathered, size = [], 0
    yield SEPARATOR.join(gathered)
