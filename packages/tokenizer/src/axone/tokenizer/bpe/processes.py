"""Counting pieces on all cores: processes of this interpreter that are given blocks of text and answer with counts.

Each runs `serve`: it reads blocks from its standard input and answers once, when there are no more. Nothing of the program that trains is
imported there, so a script needs no main guard; what is exchanged is UTF-8 and arrays, never a pickle; and a process whose parent
is gone reads the end of its input and ends.

References
----------
.. [1] Why `multiprocessing` needs a main guard, which this avoids,
   https://docs.python.org/3/library/multiprocessing.html#the-spawn-and-forkserver-start-methods
"""

import contextlib
import io
import json
import os
import queue
import subprocess
import sys
import threading
from types import TracebackType
from typing import IO, Self

import numpy as np

from axone.tokenizer.bpe.count import Counts, PieceCounter
from axone.tokenizer.bpe.patterns import pre_tokenizer
from axone.tokenizer.protocol import TokenizerError

_PROGRAM = "from axone.tokenizer.bpe.processes import serve; serve()"
_REFUSED, _ORPHANED = 3, 4  # exit statuses: the answer is the sentence of a TokenizerError; the parent is gone
_MOST = 8  # processes: one that cuts a text into blocks cannot feed many more
_SIZE = 8  # bytes that say how long a block is

Process = subprocess.Popen[bytes]


class CountingProcesses:
    """One process for each core. A context manager, which ends them all.

    Where none can be started (an interpreter bundled with its program, a system without processes) it counts by itself.

    Parameters
    ----------
    pattern : str or None
        The pattern of pre-tokenization.
    """

    def __init__(self, pattern: str | None) -> None:
        self._here = PieceCounter(pre_tokenizer(pattern))
        self._blocks = queue.Queue[bytes](maxsize=_MOST)
        self._failed: Process | None = None
        self._processes = _start(min(_cores(), _MOST))
        first = json.dumps(pattern).encode()
        self._feeders = [
            threading.Thread(target=self._feed, args=(process, first), daemon=True) for process in self._processes
        ]
        for feeder in self._feeders:
            feeder.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
        self._stop_feeding()
        for process in self._processes:
            with process:  # closes its pipes and waits
                pass

    def count(self, block: str) -> None:
        """Have a block counted by whichever process is free first.

        Raises
        ------
        TokenizerError, ChildProcessError
            As `results`, because of an earlier block.
        """
        if not self._processes:
            self._here.count(block)
        elif self._failed:
            self.results()
        else:
            self._blocks.put(block.encode("utf-8", errors="surrogatepass"))

    def results(self) -> list[Counts]:
        """End the counting and return what was counted by each.

        Raises
        ------
        TokenizerError
            If the pattern was too slow for a text.
        ChildProcessError
            If a process ended early, as when the system has no memory left for it.
        """
        self._stop_feeding()
        processes = [self._failed] if self._failed else self._processes
        return [self._here.counts(), *map(_result, processes)]

    def _stop_feeding(self) -> None:
        for _ in self._feeders:
            self._blocks.put(b"")
        for feeder in self._feeders:
            feeder.join()
        self._feeders.clear()

    def _feed(self, process: Process, block: bytes) -> None:
        """Pass blocks on, the empty one last. Once a process takes no more, all is dropped."""
        while True:
            try:
                if not self._failed:
                    _write(process.stdin, block)
            except OSError:
                self._failed = process
            if not block:
                break
            block = self._blocks.get()


def serve() -> None:
    """Count the blocks that come on standard input, and answer on standard output."""
    try:
        counter = PieceCounter(pre_tokenizer(json.loads(_read(sys.stdin.buffer))))
        while block := _read(sys.stdin.buffer):
            counter.count(block.decode("utf-8", errors="surrogatepass"))
    except TokenizerError as error:
        sys.stdout.buffer.write(str(error).encode())
        sys.exit(_REFUSED)
    except EOFError:
        sys.exit(_ORPHANED)
    answer = io.BytesIO()
    np.savez(answer, **counter.counts()._asdict())
    sys.stdout.buffer.write(answer.getbuffer())


def _start(number: int) -> list[Process]:
    """Start as many processes as that, or as the system allows; one alone would gain nothing."""
    started: list[Process] = []
    if number < 2 or not sys.executable or getattr(sys, "frozen", False):
        return started
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OPENBLAS_NUM_THREADS": "1"}
    with contextlib.suppress(OSError):
        for _ in range(number):
            process = subprocess.Popen(  # noqa: S603 - this interpreter and our own program
                [sys.executable, "-P", "-c", _PROGRAM],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                # In a group of its own, so that Ctrl-C reaches this process alone, which then ends the others.
                process_group=0,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
            started.append(process)
    return started


def _result(process: Process) -> Counts:
    """Wait for the answer of a process."""
    answer, complaint = process.communicate()
    if process.returncode == _REFUSED:
        raise TokenizerError(answer.decode())
    if process.returncode:
        reason = complaint.decode(errors="replace").strip().rpartition("\n")[2] or "no reason given"
        raise ChildProcessError(
            f"A process that counted for training must live until it has answered, but it ended with status {process.returncode} "
            f"({reason}); train again, with more memory free if it was killed."
        )
    with np.load(io.BytesIO(answer), allow_pickle=False) as arrays:
        return Counts(**arrays)


def _write(pipe: IO[bytes] | None, block: bytes) -> None:
    """Write a block after its length."""
    rest = memoryview(len(block).to_bytes(_SIZE, "little") + block)
    while rest and pipe:
        rest = rest[pipe.write(rest) :]


def _read(pipe: IO[bytes]) -> bytes:
    """Read what `_write` wrote.

    Raises
    ------
    EOFError
        If the input ends within it.
    """
    size = int.from_bytes(_read_exactly(pipe, _SIZE), "little")
    return _read_exactly(pipe, size)


def _read_exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
