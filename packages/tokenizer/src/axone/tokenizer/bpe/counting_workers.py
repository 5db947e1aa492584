"""Counting on all cores: worker processes of this interpreter that receive blocks of text and return counts.

Each worker runs `serve`: it reads blocks from its standard input until an empty one and answers once. A worker
imports nothing of the program that trains, so a script needs no main guard. The pipes carry UTF-8 and arrays, never a
pickle. A worker whose parent process has died reads the end of its input and exits.

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

from axone.tokenizer.bpe.cores import available_cores
from axone.tokenizer.bpe.counting import Counts, PieceCounter
from axone.tokenizer.bpe.patterns import pre_tokenizer
from axone.tokenizer.errors import TokenizerError

_PROGRAM = "from axone.tokenizer.bpe.counting_workers import serve; serve()"
_REFUSED, _ORPHANED = 3, 4  # exit statuses: the answer is the message of a TokenizerError; the parent is gone
_MAX_WORKERS = 8  # one process that splits a text into blocks cannot feed many more
_LENGTH_SIZE = 8  # bytes of the length before each block

Process = subprocess.Popen[bytes]


class CountingWorkers:
    """Pool of one worker process per core. As a context manager it ends all of them.

    If no process can be started (an interpreter bundled with its program, a system without processes), blocks are
    counted in this process.

    Parameters
    ----------
    pattern : str or None
        The pre-tokenization pattern.
    """

    def __init__(self, pattern: str | None) -> None:
        self._local = PieceCounter(pre_tokenizer(pattern))
        self._blocks = queue.Queue[bytes](maxsize=_MAX_WORKERS)
        self._failed: Process | None = None
        self._processes = _start(min(available_cores(), _MAX_WORKERS))
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
            with process:  # closes the pipes and waits for the exit
                pass

    def count(self, block: str) -> None:
        """Queue a block for the next free worker.

        Raises
        ------
        TokenizerError, ChildProcessError
            As `results`, because of an earlier block.
        """
        if not self._processes:
            self._local.count(block)
        elif self._failed:
            self.results()
        else:
            self._blocks.put(block.encode("utf-8", errors="surrogatepass"))

    def results(self) -> list[Counts]:
        """End the counting and return the counts of each worker.

        Raises
        ------
        TokenizerError
            If the pattern was too slow for a text.
        ChildProcessError
            If a worker died, for example because the system had no memory left.
        """
        self._stop_feeding()
        processes = [self._failed] if self._failed else self._processes
        return [self._local.counts(), *map(_result, processes)]

    def _stop_feeding(self) -> None:
        for _ in self._feeders:
            self._blocks.put(b"")
        for feeder in self._feeders:
            feeder.join()
        self._feeders.clear()

    def _feed(self, process: Process, block: bytes) -> None:
        """Write blocks to a worker, the empty one last. Once a worker has failed, drop all blocks."""
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
    """Count the blocks from standard input and write the counts to standard output."""
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
    """Start workers, as many as the system allows; return none for a number below 2, which would gain nothing."""
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
                # A process group of its own: Ctrl-C reaches only the parent process, which then ends the workers.
                process_group=0,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
            started.append(process)
    return started


def _result(process: Process) -> Counts:
    """Wait for the counts of a worker."""
    answer, complaint = process.communicate()
    if process.returncode == _REFUSED:
        raise TokenizerError(answer.decode())
    if process.returncode:
        reason = complaint.decode(errors="replace").strip().rpartition("\n")[2] or "no reason given"
        raise ChildProcessError(
            f"a worker process that counts pieces died with status {process.returncode} ({reason}): train again, "
            "with more "
            "free memory if it was killed"
        )
    with np.load(io.BytesIO(answer), allow_pickle=False) as arrays:
        return Counts(**arrays)


def _write(pipe: IO[bytes] | None, block: bytes) -> None:
    """Write the length of a block, then the block."""
    rest = memoryview(len(block).to_bytes(_LENGTH_SIZE, "little") + block)
    while rest and pipe:
        rest = rest[pipe.write(rest) :]


def _read(pipe: IO[bytes]) -> bytes:
    """Read a block that `_write` wrote.

    Raises
    ------
    EOFError
        If the input ends within it.
    """
    size = int.from_bytes(_read_exactly(pipe, _LENGTH_SIZE), "little")
    return _read_exactly(pipe, size)


def _read_exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data
