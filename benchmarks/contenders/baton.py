"""The contender's side of a race: work when the harness says so, time every unit of work, wait otherwise.

All contenders of a race live at once, each in a process of its own, and only the one that holds the baton computes.
The harness sends how many units to do; the contender answers with the seconds that each took and with what it has used.
Needs nothing but Python's standard library, for it also runs in the peers' environment.
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
"""A model of next to nothing, trained first where the memory that a library takes by itself shall be known."""

LEARNING_RATE, BETAS, EPS, WEIGHT_DECAY, CLIP = 1e-3, (0.9, 0.99), 1e-8, 0.1, 1.0


def options() -> dict:
    """Return what the harness asks of this contender: a size's fields, and those that the script knows."""
    given = json.loads(sys.argv[1]) if len(sys.argv) > 1 else {}
    return {**SIZES[given.get("size", "small")], "workers": 2, "threads": 2, **given}


class Baton:
    """Waits for its turn, and times every unit of work between two calls of `lap`.

    Parameters
    ----------
    memory_before : int, optional
        What `held_memory` returned before the model was made.
    """

    def __init__(self, memory_before: int | None = None) -> None:
        self._memory_before = memory_before
        self._answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what a library prints must not be taken for an answer
        self._versions: dict[str, str] = {}
        self._wait()

    def versions(self, **versions: str) -> None:
        """Say which versions of what compute here."""
        self._versions = versions

    def lap(self) -> None:
        """Note the time since the last lap; hand the baton back when the units are done, and wait for it."""
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
    """Return the processor's time that this process and its children have taken, in seconds."""
    ticks = sum(int(field) for stat in _children().values() for field in stat[11:13])  # utime, stime
    ended = os.times()
    running = ticks / os.sysconf("SC_CLK_TCK") if ticks else 0.0
    return time.process_time() + running + ended.children_user + ended.children_system


def held_memory() -> int | None:
    """Return the memory that this process holds now, in bytes, where the platform tells."""
    try:
        return _status("self")["VmRSS"]
    except OSError:
        return None


def peak_memory() -> int | None:
    """Return the most memory that this process and its children have held, in bytes; what they share counts once."""
    with contextlib.suppress(OSError):  # first not getrusage, which counts the parent's memory from before exec
        return _distinct_peak(["self", *_children()])
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _distinct_peak(processes: list[str]) -> int:
    """Return the sum of processes' peaks less what they share now, which would count for each."""
    status = [_status(process) for process in processes]
    peak = sum(fields["VmHWM"] for fields in status)
    if len(processes) > 1:
        peak -= sum(fields["RssAnon"] + fields["RssShmem"] for fields in status) - sum(map(_share, processes))
        peak -= sum(fields["RssFile"] for fields in status[1:])  # libraries
    return peak


def _share(process: str) -> int:
    """Return a process's share of the memory that no file backs: of a page that two hold, half."""
    fields = _sizes(Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii"))
    return fields["Pss_Anon"] + fields["Pss_Shmem"]


def _status(process: str) -> dict[str, int]:
    return _sizes(Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace"))


def _sizes(text: str) -> dict[str, int]:
    """Return the lines that are sizes, in bytes."""
    lines = (line.split() for line in text.splitlines() if line.endswith(" kB"))
    return {name.rstrip(":"): int(size) * 1024 for name, size, _ in lines}


def _children() -> dict[str, list[str]]:
    """Return the numbers of the children where the platform tells, with the fields of their ``stat`` after the name."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = path.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == os.getpid():
                found[path.parent.name] = fields
    return found
