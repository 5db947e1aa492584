"""From a corpus to its pieces, which are all that training needs of it: a stream of texts in, one count for each piece out.

What is kept grows with the number of different pieces, not with the corpus. A corpus that takes longer than it takes to start
processes is shared out among as many as there are cores.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator

from axone.tokenizer.bpe.count import PieceCounter
from axone.tokenizer.bpe.flat import IntArray
from axone.tokenizer.bpe.patterns import PreTokenizer
from axone.tokenizer.bpe.processes import CountingProcesses
from axone.tokenizer.bpe.rules import BREAK
from axone.tokenizer.bpe.special import matcher
from axone.tokenizer.protocol import check_text

_TOGETHER = 1 << 16  # characters of short texts that are gathered
_ALONE = 2.0  # seconds of work before it is shared out: to start the others takes a fraction of one


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
        Called now and then.

    Returns
    -------
    pieces : list[bytes]
        The different pieces in UTF-8.
    counts : IntArray, shape (U,)
        How often each occurs.
    """
    counter = PieceCounter(splitter)
    others: CountingProcesses | None = None
    start = time.thread_time()
    with contextlib.ExitStack() as stack:
        for joined in _joined(_cut(texts, separators)):
            for block in splitter.blocks(joined):
                if others is None and time.thread_time() - start > _ALONE:
                    others = stack.enter_context(CountingProcesses(splitter.pattern))
                if others:
                    others.count(block)
                else:
                    counter.count(block)
            if on_progress is not None:
                on_progress()
        for counts in others.results() if others else ():
            counter.add(counts)
    return counter.pieces()


def _cut(texts: Iterable[str], separators: Iterable[str]) -> Iterator[str]:
    """Yield the texts, checked, without the separators."""
    pattern = matcher(frozenset(separators))
    for text in texts:
        check_text(text)
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
