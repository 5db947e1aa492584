"""Texts as tokens of a tokenizer trained on them: with progress bars, and cached in the user's cache folder."""

import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from axone.llm import HeldOutEnds, TextFiles, TokenDataset, cached_dataset, format_duration
from axone.tokenizer import BPETokenizer, CharTokenizer, Tokenizer

if TYPE_CHECKING:
    from tqdm import tqdm

IN_MEMORY = 1 << 28  # bytes of text: fewer characters are encoded again each time instead of being cached
PROGRESS_BAR = 1 << 26  # bytes of text: fewer are read in an instant
LISTED = 8  # files


class Corpus:
    """Texts that are read several times, with a progress bar if they are long.

    Parameters
    ----------
    texts : sequence of str or TextFiles
    name : str
        Identity of the texts in the cache, such as their path.
    stream : text file
        Stream of the progress bars.
    held_out : float, optional
        Fraction of the texts that the end of each has, if there are several: the ends then come last.
    """

    def __init__(
        self, texts: list[str] | TextFiles, name: str, stream: TextIO, *, held_out: float | None = None
    ) -> None:
        self.num_bytes = texts.num_bytes if isinstance(texts, TextFiles) else sum(map(len, texts))
        several = isinstance(texts, TextFiles) and len(texts.files) > 1
        self.ends = HeldOutEnds(texts, held_out) if several and held_out is not None else None
        self._texts: Iterable[str] = self.ends or texts
        self._name = f"{name} ends {held_out}" if self.ends else name
        self._stream = stream
        self._doing = "reading"

    def __iter__(self) -> Iterator[str]:
        if self.num_bytes < PROGRESS_BAR or not self._stream.isatty():
            yield from self._texts
            return
        with self._bar(total=self.num_bytes, desc=self._doing, unit="B", unit_scale=True) as bar:
            for text in self._texts:
                yield text
                bar.update(len(text.encode(errors="replace")))

    def _bar(self, **options: Any) -> "tqdm[NoReturn]":
        """Return a progress bar that is erased at its end."""
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # no thread of tqdm: processes with threads are not forked
        return tqdm(file=self._stream, leave=False, **options)

    def as_characters(self) -> TokenDataset:
        """Return the texts as characters."""
        return cached_dataset(self, f"{self._name} char", self._learned_characters, min_bytes=IN_MEMORY)

    def as_byte_pairs(self, vocab_size: int) -> TokenDataset:
        """Return the texts as subwords of a tokenizer that is trained on them."""
        return cached_dataset(self, f"{self._name} bpe {vocab_size}", lambda: self._learned_pairs(vocab_size))

    def with_tokenizer(self, tokenizer: Tokenizer) -> TokenDataset:
        """Return the texts as ids of a given tokenizer."""
        self._doing = "encoding"
        return cached_dataset(self, f"{self._name} given", tokenizer, min_bytes=IN_MEMORY)

    def _learned_characters(self) -> Tokenizer:
        tokenizer = CharTokenizer.train(_joined(self))
        self._doing = "encoding"
        return tokenizer

    def _learned_pairs(self, vocab_size: int) -> Tokenizer:
        self._doing, began = "counting words", time.perf_counter()
        if not self._stream.isatty():
            tokenizer = BPETokenizer.train(self, vocab_size)
        else:
            # The bar appears with the first merge: counting, which precedes it, has its own bar.
            shape = "merging pairs: {n_fmt}/{total_fmt} |{bar}|"
            with self._bar(total=vocab_size, bar_format=shape, delay=1e-9) as bar:

                def show(done: int, total: int) -> None:
                    if done:
                        bar.total = total
                        bar.update(done - bar.n)

                tokenizer = BPETokenizer.train(self, vocab_size, progress=show)
        trained = f"{tokenizer.vocab_size:,} tokens trained in {format_duration(time.perf_counter() - began)}"
        print(f"tokenizer: {trained}", file=self._stream)
        self._doing = "encoding"
        return tokenizer


def list_files(texts: TextFiles) -> list[str]:
    """Return lines that list the files of a folder, and those that were skipped with the reason of each."""
    names = [file.name for file in texts.files]
    skipped = [f"{file.name} {fault}" for file, fault in texts.skipped.items()]
    lines = [f"files            {len(names):,} read: {_listed(names)}"]
    return [*lines, f"                 {len(skipped):,} skipped: {_listed(skipped)}"] if skipped else lines


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _joined(texts: Iterable[str]) -> Iterator[str]:
    """Yield texts, and a line end between two of them."""
    first = True
    for text in texts:
        if not first:
            yield "\n"
        first = False
        yield text
