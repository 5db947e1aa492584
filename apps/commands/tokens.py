"""Texts as tokens, with a tokenizer made from the same texts: what takes long is shown, and kept in the user's cache."""

import hashlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from axone.llm import TextFiles, TokenDataset, format_duration, learned_dataset
from axone.tokenizer import BPETokenizer, CharTokenizer, Tokenizer

if TYPE_CHECKING:
    from tqdm import tqdm

IN_MEMORY = 1 << 28  # bytes of text: what has fewer characters is encoded anew each time, and not kept in a file
WORTH_A_BAR = 1 << 26  # bytes of text: what has fewer is read in no time


class Corpus:
    """Texts that are gone through several times, each time with a progress bar if they are long.

    Parameters
    ----------
    texts : sequence of str or TextFiles
    name : str
        What tells them from others, such as their path: their tokens are kept under it.
    stream : text file
        Where to show how far it is.
    """

    def __init__(self, texts: list[str] | TextFiles, name: str, stream: TextIO) -> None:
        self.num_bytes = texts.num_bytes if isinstance(texts, TextFiles) else sum(map(len, texts))
        self._texts, self._name, self._stream = texts, name, stream
        self._doing = "reading"

    def __iter__(self) -> Iterator[str]:
        if self.num_bytes < WORTH_A_BAR or not self._stream.isatty():
            yield from self._texts
            return
        with self._bar(total=self.num_bytes, desc=self._doing, unit="B", unit_scale=True) as bar:
            for text in self._texts:
                yield text
                bar.update(len(text.encode(errors="replace")))

    def _bar(self, **options: Any) -> "tqdm[NoReturn]":
        """Return a progress bar that leaves nothing behind."""
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # no thread that outlives the bar: training forks where there are no others
        return tqdm(file=self._stream, leave=False, **options)

    def as_characters(self) -> TokenDataset:
        """Return the texts as characters."""
        if self.num_bytes <= IN_MEMORY:
            return TokenDataset.from_texts(self, self._learned_characters())
        return learned_dataset(self, self._place("char"), self._learned_characters)

    def as_byte_pairs(self, vocab_size: int) -> TokenDataset:
        """Return the texts as pieces of words, learned from them."""
        return learned_dataset(self, self._place(f"bpe {vocab_size}"), lambda: self._learned_pairs(vocab_size))

    def with_tokenizer(self, tokenizer: Tokenizer) -> TokenDataset:
        """Return the texts as tokens of a tokenizer that is there already."""
        if self.num_bytes <= IN_MEMORY:
            return TokenDataset.from_texts(self, tokenizer)
        self._doing = "encoding"
        folder = self._place("another's tokenizer")
        folder.mkdir(parents=True, exist_ok=True)
        return TokenDataset.from_texts(self, tokenizer, folder / "tokens.bin")

    def _place(self, kind: str) -> Path:
        """Return the folder in the user's cache where these texts are kept as tokens of a kind."""
        import pooch

        name = hashlib.sha256(f"{self._name} {kind}".encode(errors="surrogateescape")).hexdigest()[:16]
        return Path(pooch.os_cache("axone")) / "tokens" / name

    def _learned_characters(self) -> Tokenizer:
        tokenizer = CharTokenizer.train(_joined(self))
        self._doing = "encoding"
        return tokenizer

    def _learned_pairs(self, vocab_size: int) -> Tokenizer:
        self._doing, began = "counting words", time.perf_counter()
        if not self._stream.isatty():
            tokenizer = BPETokenizer.train(self, vocab_size)
        else:
            # It appears with the first merge: counting comes before, with a bar of its own.
            shape = "merging pairs: {n_fmt}/{total_fmt} |{bar}|"
            with self._bar(total=vocab_size, bar_format=shape, delay=1e-9) as bar:

                def show(done: int, total: int) -> None:
                    if done:
                        bar.total = total
                        bar.update(done - bar.n)

                tokenizer = BPETokenizer.train(self, vocab_size, progress=show)
        learned = f"{tokenizer.vocab_size:,} tokens learned in {format_duration(time.perf_counter() - began)}"
        print(f"tokenizer: {learned}, kept for the next time", file=self._stream)
        self._doing = "encoding"
        return tokenizer


def _joined(texts: Iterable[str]) -> Iterator[str]:
    """Yield texts and the new lines between them."""
    first = True
    for text in texts:
        if not first:
            yield "\n"
        first = False
        yield text
