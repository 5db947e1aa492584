"""Scaling of a training over ranks: strong, weak, ranks x workers, sharded optimizer, all-reduce, and a cost model.


    python benchmarks/scaling.py [--rounds N] [--out FOLDER] [--mpiexec FILE]

Takes about five minutes on two idle cores, and writes the tables of the guide: scaling.csv (steps), all_reduce.csv,
scaling_check.csv (the cost model against the measurement) and scaling_model.csv (its prediction) into --out. The
configurations take turns, so that a slow minute affects all of them. More ranks than cores take turns on the cores.

The cost model of a step on n ranks, with b bytes of gradients::

    t(n) = compute / n + 2 (n - 1) / n * b / bandwidth + 2 log2(n) * latency

References
----------
.. [1] R. Thakur, R. Rabenseifner, W. Gropp, "Optimization of Collective Communication Operations in MPICH",
   https://doi.org/10.1177/1094342005051521
"""

import argparse
import csv
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = Path(__file__).parent / "contenders" / "axone_ranks.py"
BATCH = {"small": 12, "medium": 8}
SECONDS = {"small": 2.0, "medium": 5.0}
LAYOUTS = [(1, 1), (1, 2), (2, 1), (2, 2), (4, 1)]  # ranks, workers
ELEMENTS = [1 << 8, 1 << 12, 1 << 16, 1 << 18, 1 << 20, 1 << 22, 1 << 24]
TOKENS = 1 << 19  # of a step of the prediction: GPT-2's
NETWORKS = [(1, 50e-6), (10, 30e-6), (100, 5e-6)]  # Gbit/s, seconds of latency
SIZES = [1e6, 1e7, 1e8, 1e9]
RANKS = [1, 4, 16, 64, 256, 1024]


def job(mpiexec, ranks, **options):
    """Run a job, and return what rank 0 prints."""
    program = [sys.executable, "-m", "mpi4py"] if ranks > 1 else [sys.executable]
    launcher = [mpiexec, "-n", str(ranks)] if ranks > 1 else []
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    command = [*launcher, *program, str(PROGRAM), json.dumps(options)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout)


def write(path, header, rows):
    """Write a table, and print it."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    print(f"\n{path}")
    for row in [header, *rows]:
        print("  ".join(f"{cell!s:>13}" for cell in row), flush=True)


def cases():
    """Yield the configurations: name of the series, model, ranks, workers, batch."""
    for model, batch in BATCH.items():
        for ranks, workers in LAYOUTS:
            yield "strong", model, ranks, workers, batch
        yield "weak", model, 1, 1, batch // 2
        yield "weak", model, 2, 1, batch
        yield "weak", model, 4, 1, batch * 2
    yield "sharded", "medium", 2, 1, BATCH["medium"]


def measure(mpiexec, rounds):
    """Return the results of all configurations, each measured once per round."""
    found = {}
    for _ in range(rounds):
        for case in cases():
            series, model, ranks, workers, batch = case
            if series == "weak" and ranks == 2:
                continue  # that of the strong series
            options = {"model": model, "batch": batch, "workers": workers, "seconds": SECONDS[model]}
            options["shards"] = series == "sharded"
            found.setdefault(case, []).append(job(mpiexec, ranks, **options))
    for case in cases():
        if case not in found:
            found[case] = found["strong", *case[1:]]
    return found


def summary(results):
    """Return median, lowest and highest median of the rounds, and the parts of a step."""
    medians = [statistics.median(result["steps"]) for result in results]
    step = statistics.median(medians)
    waiting, communicating = (statistics.median(r[name] for r in results) for name in ("waiting", "communicating"))
    return step, min(medians), max(medians), waiting, communicating


def table_of_steps(found, cores):
    """Return the rows of the measured steps."""
    rows = []
    for case in cases():
        (series, model, ranks, workers, batch), results = case, found[case]
        step, low, high, waiting, communicating = summary(results)
        first = ("weak", model, 1, 1, BATCH[model] // 2) if series == "weak" else ("strong", model, 1, 1, BATCH[model])
        used = min(ranks * workers, cores)
        gain = summary(found[first])[0] / step * batch / first[-1]
        rows.append([
            series, model, f"{ranks} x {workers}", batch, f"{1e3 * step:.1f}", f"{1e3 * low:.1f} to {1e3 * high:.1f}",
            f"{1e3 * (step - waiting - communicating):.1f}", f"{1e3 * communicating:.2f}", f"{1e3 * waiting:.2f}",
            f"{gain:.2f}", f"{gain / used:.0%}", f"{results[0]['moments'] / 2**20:.0f}", f"{results[0]['peak'] / 2**20:.0f}",
        ])  # fmt: skip
    return rows


def fit(times, ranks):
    """Return latency and bandwidth of an all-reduce from its times by number of bytes, by the cost model."""
    latency = min(times.values()) / (2 * math.log2(ranks))
    size, seconds = max(times.items())
    return latency, 2 * (ranks - 1) / ranks * size / (seconds - min(times.values()))


def model_of_step(compute, ranks, size, bandwidth, latency):
    """Return the seconds of a step by the cost model."""
    return compute / ranks + 2 * (ranks - 1) / ranks * size / bandwidth + 2 * math.log2(ranks) * latency


def table_of_check(found, network, cores):
    """Return the rows that compare the cost model with the measurement."""
    rows = []
    for model, batch in BATCH.items():
        alone = found["strong", model, 1, 1, batch]
        compute, size = summary(alone)[0], 4 * alone[0]["parameters"]
        for ranks in (2, 4):
            latency, bandwidth = network[ranks]
            predicted = compute / min(ranks, cores)
            predicted += model_of_step(0.0, ranks, size, bandwidth, latency)
            step = summary(found["strong", model, ranks, 1, batch])[0]
            rows.append([model, ranks, f"{1e3 * predicted:.1f}", f"{1e3 * step:.1f}", f"{predicted / step - 1:+.1%}"])
    return rows


def table_of_prediction(speed):
    """Return the rows of the predicted speed-up and efficiency.

    Parameters
    ----------
    speed : float
        Floating-point operations per second of a rank.
    """
    rows = []
    for parameters in SIZES:
        compute = 6 * parameters * TOKENS / speed
        for gigabits, latency in NETWORKS:
            times = [model_of_step(compute, n, 4 * parameters, gigabits * 1e9 / 8, latency) for n in RANKS]
            cells = [f"{times[0] / t:.3g} ({times[0] / t / n:.0%})" for n, t in zip(RANKS, times, strict=True)]
            rows.append([f"{parameters / 1e6:,.0f} M", f"{gigabits} Gbit/s", f"{compute:,.0f} s", *cells[1:]])
    return rows


def main():
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="number of rounds (default: 2)")
    parser.add_argument("--out", type=Path, default=Path("docs/guide"), metavar="FOLDER", help="folder of the tables")
    beside = Path(sys.executable).with_name("mpiexec")
    usual = str(beside) if beside.exists() else shutil.which("mpiexec")
    parser.add_argument("--mpiexec", default=usual, metavar="FILE", help="launcher (default: that beside Python)")
    options = parser.parse_args()
    began, cores = time.monotonic(), len(os.sched_getaffinity(0))
    times = {}
    for ranks in (2, 4):
        measured = job(options.mpiexec, ranks, elements=ELEMENTS, seconds=0.3)
        times[ranks] = {4 * int(elements): seconds for elements, seconds in measured.items()}
    network = {ranks: fit(each, ranks) for ranks, each in times.items()}
    rows = [
        [f"{size:,}", *(f"{1e6 * times[n][size]:,.0f}" for n in (2, 4)), f"{size / times[2][size] / 1e9:.2f}"]
        for size in times[2]
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    write(options.out / "all_reduce.csv", ["bytes", "2 ranks, µs", "4 ranks, µs", "GB/s of 2 ranks"], rows)
    found = measure(options.mpiexec, options.rounds)
    header = [
        "series", "model", "ranks x workers", "batch", "step, ms", "rounds, ms", "compute, ms", "communication, ms",
        "waiting, ms", "gain", "efficiency", "moments, MiB", "peak, MiB",
    ]  # fmt: skip
    write(options.out / "scaling.csv", header, table_of_steps(found, cores))
    header = ["model", "ranks", "predicted, ms", "measured, ms", "difference"]
    write(options.out / "scaling_check.csv", header, table_of_check(found, network, cores))
    fastest = found["strong", "medium", 1, cores if cores < 3 else 2, BATCH["medium"]]
    tokens = BATCH["medium"] * 256
    speed = 6 * fastest[0]["parameters"] * tokens / summary(fastest)[0]
    header = ["parameters", "network", "step of 1 rank", *(f"{n} ranks" for n in RANKS[1:])]
    write(options.out / "scaling_model.csv", header, table_of_prediction(speed))
    print(f"\n{speed / 1e9:.0f} GFLOP/s per rank; {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
