"""Benchmark harness: contenders in processes of their own take turns on the same threads; medians, ratios and noise.

All contenders of a race are running, but only one computes: the harness gives each the baton for a block of units,
round after round, so that a slow minute of the machine affects all of them. During each block it measures how busy the
processors were with other programs. The most disturbed rounds are not counted.

A contender is a script in ``contenders/`` that communicates through `baton.Baton`; any program that does can take part.
"""

import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

CONTENDERS = Path(__file__).parent / "contenders"
BLOCK_SECONDS = 1.5  # of one contender's turn
SETTLE_SECONDS = 0.1  # until the threads of the previous contender have stopped spinning
QUIET = 0.04  # share of the processors that other programs may use in an undisturbed round
FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class Contender:
    """A script with its interpreter and options.

    Attributes
    ----------
    script : str
        A file in ``contenders/``.
    python : str
        The interpreter.
    options : dict
        Options that the script reads by `baton.options`.
    environment : dict
        Variables in addition to those of all contenders.
    """

    script: str
    python: str = sys.executable
    options: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)

    def command(self) -> list[str]:
        """Return the command line."""
        return [self.python, str(CONTENDERS / self.script), json.dumps(self.options)]


@dataclass(frozen=True)
class Result:
    """Measurements of one contender in a race.

    Attributes
    ----------
    seconds : float
        The median of a unit, over the counted rounds.
    best : float
        The fastest unit.
    rounds : list of float
        The median of each counted round.
    disturbance : float
        The largest share of the processors that other programs used in one of them.
    peak_memory : int or None
        Bytes.
    memory_before : int or None
        Memory before the model was made, in bytes.
    versions : dict
    """

    seconds: float
    best: float
    rounds: list[float]
    disturbance: float
    peak_memory: int | None
    memory_before: int | None
    versions: dict


def environment(threads: int) -> dict[str, str]:
    """Return the environment of every contender: as many threads each, on the same cores."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
    keep = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONDONTWRITEBYTECODE"}}
    return {**keep, **dict.fromkeys(names, str(threads)), "PYTHONWARNINGS": "ignore"}


class _Running:
    """A contender's process."""

    def __init__(self, contender: Contender, threads: int) -> None:
        self.process = subprocess.Popen(
            contender.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**environment(threads), **contender.environment},
            text=True,
            encoding="utf-8",
        )

    def run(self, units: int) -> dict:
        """Give the contender its turn, and wait for its answer."""
        before = _busy_seconds()
        began = time.perf_counter()
        try:
            self.process.stdin.write(f"{units}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"contender ended early with status {self.process.wait()}: {self.process.args}")
        answer = json.loads(line)
        elapsed, busy = time.perf_counter() - began, _busy_seconds() - before
        others = busy - answer["processor_seconds"]
        return {**answer, "disturbance": max(others, 0.0) / (elapsed * cores())}

    def stop(self) -> None:
        """Close the contender's input, and wait for its end."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait()


def race(
    contenders: dict[str, Contender],
    *,
    threads: int,
    rounds: int,
    patience: float = 0.0,
    units: int | None = None,
    say=lambda text: print(text, file=sys.stderr, flush=True),
) -> dict[str, Result]:
    """Run a race.

    Parameters
    ----------
    contenders : dict
        By name.
    threads : int
        For each.
    rounds : int
        How many to run.
    patience : float
        Seconds to continue if too few rounds were undisturbed.
    units : int, optional
        Units per block; by default as many as fit into `BLOCK_SECONDS`.
    say : callable
        Receives lines about the progress.

    Returns
    -------
    dict of Result
        By name.
    """
    running = {name: _Running(c, threads) for name, c in contenders.items()}
    try:
        size = {}
        for name, runner in running.items():
            first = runner.run(2)["seconds"]
            again = min(runner.run(max(2, min(20, int(1 / first[-1]))))["seconds"])
            size[name] = units or max(3, round(BLOCK_SECONDS / again))
            say(f"  {name}: first {first[0]:.3g} s, then about {again * 1e3:.4g} ms")
        laps, began = [], time.perf_counter()
        while len(laps) < rounds or (
            time.perf_counter() - began < patience and sum(map(_quiet, laps)) < max(rounds // 2, FEWEST_ROUNDS)
        ):
            lap = {}
            order = list(running)
            shift = len(laps) % len(order)
            for name in order[shift:] + order[:shift]:
                time.sleep(SETTLE_SECONDS)
                lap[name] = running[name].run(size[name])
            laps.append(lap)
            medians = ", ".join(f"{n} {statistics.median(_counted(lap[n])) * 1e3:.4g}" for n in running)
            say(f"  round {len(laps)}: {medians} ms; other programs used {_worst(lap):.0%}")
    finally:
        for runner in running.values():
            runner.stop()
    chosen = sorted(laps, key=_worst)[: max(sum(map(_quiet, laps)), min(FEWEST_ROUNDS, len(laps)))]
    return {name: _result(name, chosen, laps) for name in contenders}


def _counted(answer: dict) -> list[float]:
    """Return the seconds of a block without its first unit, which refills the caches and wakes the threads."""
    return answer["seconds"][1:] or answer["seconds"]


def _worst(lap: dict) -> float:
    return max(answer["disturbance"] for answer in lap.values())


def _quiet(lap: dict) -> bool:
    return _worst(lap) <= QUIET


def _result(name: str, chosen: list[dict], laps: list[dict]) -> Result:
    times = [second for lap in chosen for second in _counted(lap[name])]
    return Result(
        seconds=statistics.median(times),
        best=min(second for lap in laps for second in _counted(lap[name])),
        rounds=[statistics.median(_counted(lap[name])) for lap in chosen],
        disturbance=max(map(_worst, chosen)),
        peak_memory=laps[-1][name]["peak_memory"],
        memory_before=laps[-1][name]["memory_before"],
        versions=laps[-1][name]["versions"],
    )


def once(contender: Contender, *, threads: int, units: int) -> tuple[float, dict]:
    """Run a contender alone, from its start; return the seconds until its answer, and the answer."""
    began = time.perf_counter()
    runner = _Running(contender, threads)
    try:
        answer = runner.run(units)
        return time.perf_counter() - began, answer
    finally:
        runner.stop()


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _busy_seconds() -> float:
    """Return the busy time of all processors since the system's start; 0 where the system does not report it."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _, _, interrupt, soft, stolen = map(int, fields[:8])
    return (user + nice + system + interrupt + soft + stolen) / os.sysconf("SC_CLK_TCK")


def machine() -> dict:
    """Return the machine, system and Python version, on which the figures depend."""
    model = platform.processor()
    with contextlib.suppress(OSError, IndexError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), model)
    return {"processor": model, "cores": cores(), "system": platform.platform(), "python": platform.python_version()}


def as_json(results: dict[str, Result]) -> dict:
    """Return results as plain values."""
    return {name: asdict(result) for name, result in results.items()}
