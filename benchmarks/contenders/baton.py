"""The contender's side of a race: compute when the harness gives the turn, time every unit, wait otherwise.

All contenders of a race run at once, each in a process of its own, and only the one with the baton computes. The
harness sends a number of units; the contender answers with the seconds of each, its processor time and its memory.
This module imports only Python's standard library, because it also runs in the peers' environment.
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

SIZES = {
    "small": {"layers": 4, "heads": 4, "channels": 128, "context": 64, "batch": 12, "vocab": 65, "bias": False},
    "medium": {"layers": 6, "heads": 6, "channels": 384, "context": 256, "batch": 8, "vocab": 65, "bias": False},
    "large": {"layers": 12, "heads": 12, "channels": 768, "context": 256, "batch": 1, "vocab": 50257, "bias": True},
}
"""The models that are trained: nanoGPT's for a CPU, one ten times as large, and GPT-2 with 124 million parameters."""

SPECK = {"layers": 1, "heads": 1, "channels": 8, "context": 8, "batch": 2}
"""A very small model, trained first to measure the memory that a library uses by itself."""

LEARNING_RATE, BETAS, EPS, WEIGHT_DECAY, CLIP = 1e-3, (0.9, 0.99), 1e-8, 0.1, 1.0


def options() -> dict:
    """Return the options that the harness passes to this contender, with the dimensions of its model."""
    given = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    return {**SIZES[given.get("size", "small")], "workers": 2, "threads": 2, **given}


class Baton:
    """Turn of a contender: waits for it, and times every unit of work between two calls of `lap`.

    Parameters
    ----------
    memory_before : int, optional
        The result of `held_memory` before the model was made.
    """

    def __init__(self, memory_before: int | None = None) -> None:
        self._memory_before = memory_before
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # so that output of libraries is not mistaken for an answer
        self._versions: dict[str, str] = {}
        self._wait()

    def versions(self, **versions: str) -> None:
        """Set the versions of the libraries that compute."""
        self._versions = versions

    def lap(self) -> None:
        """Record the time since the last lap; answer after the last unit of the turn, and wait for the next turn."""
        self._seconds.append(time.perf_counter() - self._began)
        if len(self._seconds) == self._units:
            self._answer()
            self._wait()
        self._began = time.perf_counter()

    def _wait(self) -> None:
        line = sys.stdin.readline()
        if not line:
            raise SystemExit
        self._units, self._seconds = int(line), []
        self._processor = processor_seconds()
        self._began = time.perf_counter()

    def _answer(self) -> None:
        answer = {
            "seconds": self._seconds,
            "processor_seconds": processor_seconds() - self._processor,
            "peak_memory": peak_memory(),
            "memory_before": self._memory_before,
            "versions": self._versions,
        }
        self._answers.write(json.dumps(answer) + "\n")
        self._answers.flush()


def processor_seconds() -> float:
    """Return the processor time of this process and its children, in seconds."""
    ticks = sum(int(field) for stat in _children().values() for field in stat[11:13])  # utime, stime
    ended = os.times()
    running = ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0
    return time.process_time() + running + ended.children_user + ended.children_system


def held_memory() -> int | None:
    """Return the resident memory of this process in bytes; None where the platform does not report it."""
    try:
        return _status("self")["VmRSS"]
    except OSError:
        return None


def peak_memory() -> int | None:
    """Return the peak memory of this process and its children in bytes; shared memory counts once."""
    with contextlib.suppress(OSError):  # before getrusage, which includes the parent's memory before exec
        return _distinct_peak(["self", *_children()])
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _distinct_peak(processes: list[str]) -> int:
    """Return the sum of the processes' peaks, minus the memory that they share now and that each peak includes."""
    status = [_status(process) for process in processes]
    peak = sum(fields["VmHWM"] for fields in status)
    if len(processes) > 1:
        peak -= sum(fields["RssAnon"] + fields["RssShmem"] for fields in status) - sum(map(_share, processes))
        peak -= sum(fields["RssFile"] for fields in status[1:])  # libraries
    return peak


def _share(process: str) -> int:
    """Return a process's share of anonymous memory: half of a page that two processes map."""
    fields = _sizes(Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii"))
    return fields["Pss_Anon"] + fields["Pss_Shmem"]


def _status(process: str) -> dict[str, int]:
    return _sizes(Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace"))


def _sizes(text: str) -> dict[str, int]:
    """Return the sizes of a /proc file, in bytes."""
    lines = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) * 1024 for name, size, _ in lines}


def _children() -> dict[str, list[str]]:
    """Return the ids of the child processes, with the fields of their ``stat`` after the name; empty without /proc."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # the process has ended
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                found[path.parent.name] = fields
    return found
