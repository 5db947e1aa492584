"""Counting the pieces of a corpus, which is all that training needs of it: a stream of texts in, one count for each piece out.

Finding the pieces takes most of the time of training on a large corpus, so past a few megabytes other processes help: one for each
further core, fed through pipes with lines of JSON. They are plain interpreters that run `worker`, not forks of this process and not
`multiprocessing`: nothing is pickled, and a script without a main guard is not run again. Where there is no such interpreter, or it
does not start, this process counts alone.

Sources: Python documentation, *subprocess*, https://docs.python.org/3/library/subprocess.html.
"""

import contextlib
import json
import os
import queue
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from axone.tokenizer.bpe.patterns import PreTokenizer
from axone.tokenizer.protocol import TokenizerError, text_to_bytes

_ALONE = 1 << 22  # characters: less is counted before a process has started
_FRAME = 1 << 20  # characters that are counted at once


def count_pieces(
    texts: Iterable[str],
    splitter: PreTokenizer,
    *,
    separators: Iterable[str] = (),
    workers: int | None = None,
    on_progress: Callable[[], object] | None = None,
) -> Counter[str]:
    """Count the pieces of texts.

    Parameters
    ----------
    texts : Iterable[str]
        Read once, one after another. Pieces do not cross from one to the next.
    splitter : PreTokenizer
        What cuts a text into pieces.
    separators : Iterable[str]
        Strings that are cut out first: special tokens are not text.
    workers : int or None
        Processes besides this one; None for one on each further core that this process may use.
    on_progress : Callable[[], object], optional
        Called after about each million characters.

    Returns
    -------
    Counter[str]
        In the order in which the pieces were met: not the same in every run, if others count too.
    """
    if workers is None:
        workers = _usable_cores() - 1
    counts: Counter[str] = Counter()
    characters = 0
    helpers: list[_Helper] = []
    try:
        for frame in _frames(_cut(texts, separators), splitter):
            if not any(helper.offer(frame) for helper in helpers):
                _count(frame, splitter, counts)
            characters += sum(map(len, frame))
            if characters >= _ALONE and workers > 0:
                helpers += _start_helpers(workers, splitter.pattern)
                workers = 0
            if on_progress is not None:
                on_progress()
        for helper in helpers:
            _count(helper.take_back(), splitter, counts)
        for helper in helpers:
            counts.update(helper.share())
    finally:
        for helper in helpers:
            helper.close()
    return counts


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


def _frames(texts: Iterable[str], splitter: PreTokenizer) -> Iterator[list[str]]:
    """Gather short texts and cut long ones, so that one frame is about as much as can be counted at once."""
    frame: list[str] = []
    size = 0
    for text in texts:
        for block in splitter.blocks(text):
            frame.append(block)
            size += len(block)
            if size >= _FRAME:
                yield frame
                frame, size = [], 0
    if frame:
        yield frame


def _count(frame: list[str], splitter: PreTokenizer, counts: Counter[str]) -> None:
    pieces: list[str] = []
    for text in frame:
        pieces += splitter.split(text)
    counts.update(pieces)


def _start_helpers(number: int, pattern: str | None) -> "list[_Helper]":
    helpers: list[_Helper] = []
    # Frozen into an application or embedded in one, sys.executable is that application and no interpreter.
    if Path(sys.executable or "").name.lower().startswith(("python", "pypy")) and not getattr(sys, "frozen", False):
        with contextlib.suppress(OSError, RuntimeError):  # no processes or threads here
            while len(helpers) < number:
                helpers.append(_Helper(pattern))
    return helpers


class _Helper:
    """A process that counts, and the thread that feeds it: writing to a pipe waits until the other end has read."""

    def __init__(self, pattern: str | None) -> None:
        self._ready = False
        self._asked = False
        self._reply: object = None
        self._frames: queue.Queue[list[str] | None] = queue.Queue(maxsize=1)
        self._process = subprocess.Popen(  # this interpreter, our own module
            [sys.executable, "-P", "-m", "axone.tokenizer.bpe.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        self._thread = threading.Thread(target=self._feed, args=(pattern,), daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._process.kill()
            raise

    def offer(self, frame: list[str]) -> bool:
        """Hand a frame over, unless the process is still starting or has one waiting."""
        if not self._ready:
            return False
        try:
            self._frames.put_nowait(frame)
        except queue.Full:
            return False
        self._asked = True
        return True

    def take_back(self) -> list[str]:
        """Return the frame that is still waiting, if there is one."""
        try:
            return self._frames.get_nowait() or []
        except queue.Empty:
            return []

    def share(self) -> dict[str, int]:
        """Wait until all is counted and return the counts."""
        if not self._asked:
            return {}
        self._frames.put(None)
        self._thread.join()
        if isinstance(self._reply, dict):
            return self._reply
        if isinstance(self._reply, str):
            raise TokenizerError(self._reply)
        raise TokenizerError(
            "A process that helped to count the corpus ended before it was done, perhaps for want of memory; train with workers=0."
        )

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        with contextlib.suppress(queue.Full):  # the thread waits for a frame, or finds the process gone
            self._frames.put_nowait(None)
        self._thread.join()
        self._process.wait()

    def _feed(self, pattern: str | None) -> None:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            return
        with contextlib.suppress(OSError):  # it ended: what it said last is its reply
            self._send(stdin, pattern)
            self._ready = stdout.readline() == b'"ready"\n'
            while self._ready and (frame := self._frames.get()) is not None:
                self._send(stdin, frame)
        with contextlib.suppress(OSError):
            stdin.close()
        with contextlib.suppress(ValueError), stdout:
            self._reply = json.loads(stdout.readline())

    @staticmethod
    def _send(stream: IO[bytes], value: object) -> None:
        stream.write(json.dumps(value).encode() + b"\n")
        stream.flush()


def _usable_cores() -> int:
    with contextlib.suppress(AttributeError):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
