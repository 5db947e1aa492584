"""Speed-run on two cores: the training of a small model to a loss, or in a time, beside nanoGPT's loop in PyTorch.

    python benchmarks/speedrun.py TRACK --data FILE [--peer-python PATH] [--seeds N] [--quick] [--json FILE] [--plot FILE]

A track fixes the text, its split (the last tenth of the characters is held out), and the loss to reach or the seconds to
train. The clock runs from the start of the process to the last update. Then the loss over all of the held-out text is
measured, in sequences of the model's context one after the other; the last sequence that is not whole is left out.
The tokens are characters, or subwords that an entry learns from the training text within its time. Entries take turns,
seed after seed, each in a process of its own with the same number of threads. The p-value is that of a one-sided t-test:
the probability of so low a mean loss if the true mean were the target.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from harness import CONTENDERS, cores, environment, machine

SAFETY = 0.97  # part of the time that a run by time plans for
QUICK_STEPS, QUICK_SECONDS = 40, 15


@dataclass(frozen=True)
class Entry:
    """A contender of a track: a script and its options."""

    script: str
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Track:
    """A text with a loss to reach, or a time to train.

    Attributes
    ----------
    title : str
    entries : dict of str to Entry
    target : float or None
        Loss of the held-out text in nats per token; its mean over the seeds must be at most this.
    seconds : float or None
        Time of a run. None: each entry has a number of steps.
    """

    title: str
    entries: dict
    target: float | None = None
    seconds: float | None = None


NANOGPT = Entry("nanogpt_run.py")
SUBWORDS = 2048  # vocabulary of byte pairs, learned within the time


def axone(preset, **options):
    """Return an entry of a preset with changes of its model and its trainer."""
    return Entry("axone_run.py", {"preset": preset, "model": {}, "trainer": {}, **options})


TRACKS = {
    "shakespeare-1.8857": Track(
        "tiny Shakespeare to a loss of 1.8857, about that of nanoGPT's configuration for a CPU after 2,000 steps",
        {
            "Axone": axone(
                "default",
                model={"context_length": 64, "num_layers": 1},
                trainer={"batch_size": 48, "calibration": 0.0},  # its time is that of some steps
                steps=42,
            ),
            "nanoGPT": Entry("nanogpt_run.py", {"steps": 2000}),
        },
        target=1.8857,
    ),
    "shakespeare-75s": Track(
        "tiny Shakespeare in 75 seconds",
        {"Axone": axone("default"), "nanoGPT": NANOGPT},
        seconds=75,
    ),
    "shakespeare-3min": Track(
        "tiny Shakespeare in three minutes",
        {
            "Axone": axone(
                "default",
                model={"max_ngram": 5, "ngram_dropout": 0.3},
                trainer={"learning_rate": 0.014, "weight_decay": 0.5},
            ),
            "nanoGPT": NANOGPT,
        },
        seconds=180,
    ),
    "shakespeare-12min": Track(
        "tiny Shakespeare in twelve minutes", {"Axone": axone("12-minutes"), "nanoGPT": NANOGPT}, seconds=720
    ),
    "stdlib-2min": Track(
        "the library of this Python in two minutes",
        {
            "Axone": axone("default", subwords=SUBWORDS),
            "Axone-characters": axone("default"),
            "nanoGPT-subwords": Entry("nanogpt_run.py", {"subwords": SUBWORDS}),
            "nanoGPT": NANOGPT,
        },
        seconds=120,
    ),
}


def run(entry, track, data, seed, options):
    """Run an entry once, and return its events: the last one is that of its last update."""
    o = {**entry.options, "data": str(data), "seed": seed, "threads": options.threads, "safety": SAFETY}
    if track.seconds is not None:
        o["budget"] = QUICK_SECONDS if options.quick else track.seconds
    elif options.quick:
        o["steps"] = QUICK_STEPS
    if options.every:
        o["every"] = options.every
    python = sys.executable if entry.script.startswith("axone") else options.peer_python
    began = time.time()
    command = [python, str(CONTENDERS / entry.script), json.dumps({**o, "began": began})]
    done = subprocess.run(
        command, env=environment(options.threads), stdout=subprocess.PIPE, text=True, encoding="utf-8", check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def has_peers(entries, python):
    """Return whether an interpreter has the packages of the entries in PyTorch."""
    peers = [entry for entry in entries.values() if not entry.script.startswith("axone")]
    imports = ["import torch" for _ in peers] + ["import tokenizers" for entry in peers if "subwords" in entry.options]
    if not imports:
        return True
    try:
        done = subprocess.run([python, "-c", "; ".join(imports)], check=False, stderr=subprocess.DEVNULL)
    except OSError:  # no such program
        return False
    return done.returncode == 0


def p_value(losses, target):
    """Return the probability of so low a mean under a normal distribution with the mean `target`, by Student's t-test."""
    n = len(losses)
    if n < 2 or statistics.stdev(losses) == 0:
        return float("nan")
    t = (target - statistics.mean(losses)) / (statistics.stdev(losses) / math.sqrt(n))
    freedom = n - 1
    scale = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    # With x = sqrt(freedom) tan(a), the density becomes cos(a)^(freedom - 1): Simpson's rule is exact to rounding.
    top, parts = math.atan(abs(t) / math.sqrt(freedom)), 2000
    weights = [1, *([4, 2] * (parts // 2 - 1)), 4, 1]
    area = sum(w * math.cos(top * i / parts) ** (freedom - 1) for i, w in enumerate(weights)) * top / parts / 3
    half = scale * math.sqrt(freedom) * area
    return 0.5 - half if t > 0 else 0.5 + half


def spread(values, form):
    """Return mean and standard deviation as text."""
    return form.format(statistics.mean(values)) + (
        f" ± {form.format(statistics.stdev(values))}" if len(values) > 1 else ""
    )


def table(track, runs):
    """Return the results as a Markdown table."""
    lines = [
        "| entry | seeds | steps | process, s | steps alone, s | loss, nats per token | bits per byte | p |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, events in runs.items():
        last = [each[-1] for each in events]
        losses = [event["loss"] for event in last]
        p = "" if track.target is None else f"{p_value(losses, track.target):.2g}"
        late = sum(event["seconds"] > (track.seconds or math.inf) for event in last)
        lines.append(
            f"| {name} | {len(last)} | {spread([e['step'] for e in last], '{:.0f}')} | "
            f"{spread([e['seconds'] for e in last], '{:.2f}')}{f', {late} late' if late else ''} | {spread([e['stepping'] for e in last], '{:.2f}')} | "
            f"{spread(losses, '{:.4f}')} | {spread([e['bits_per_byte'] for e in last], '{:.4f}')} | {p} |"
        )
    return "\n".join(lines)


def plot(track, runs, path):
    """Draw the loss against the seconds of the process without evaluations, for every seed of every entry."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mixed = any("subwords" in entry.options for entry in track.entries.values())
    measure, unit = ("bits_per_byte", "bits per byte") if mixed else ("loss", "nats per token")
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for number, (name, events) in enumerate(runs.items()):
        for seed, each in enumerate(events):
            axes.plot(
                [event["seconds"] for event in each],
                [event[measure] for event in each],
                f"C{number}.-",
                label=name if seed == 0 else None,
                linewidth=1,
                markersize=4,
            )
    if track.target is not None:
        axes.axhline(track.target, color="0.5", linewidth=0.8, linestyle="--")
    axes.set(xlabel="seconds", ylabel=f"loss of the held-out text, {unit}")
    axes.set_title(track.title, fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)


def main() -> None:
    """Run a track, and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("track", choices=TRACKS, metavar="TRACK", help=", ".join(TRACKS))
    add("--data", type=Path, metavar="FILE", help="the text: tiny Shakespeare, except for stdlib-2min")
    add("--entries", nargs="+", metavar="NAME", help="entries to run (default: all)")
    add("--peer-python", default=sys.executable, metavar="PATH", help="interpreter of an environment with PyTorch")
    add("--threads", type=int, default=cores(), metavar="N", help="threads of each entry (default: all cores)")
    add("--seeds", type=int, default=3, metavar="N", help="seeds from 0 on (default: 3)")
    add("--every", type=int, metavar="N", help="steps between evaluations for a curve; their time is not counted")
    add("--quick", action="store_true", help=f"{QUICK_STEPS} steps or {QUICK_SECONDS} seconds, to try the command")
    add("--json", type=Path, metavar="FILE", help="file for all events")
    add("--plot", type=Path, metavar="FILE", help="file for the curves, SVG or PNG")
    options = parser.parse_args()
    track = TRACKS[options.track]
    entries = {name: entry for name, entry in track.entries.items() if name in (options.entries or track.entries)}
    if len(entries) < len(options.entries or []):
        parser.error(f"--entries ({', '.join(options.entries)}) must be among {', '.join(track.entries)}")
    if not has_peers(entries, options.peer_python):
        parser.error(f"--peer-python ({options.peer_python}) must be a Python with the packages torch and tokenizers")
    runs = {name: [] for name in entries}
    with tempfile.TemporaryDirectory() as folder:
        data = options.data
        if options.track.startswith("stdlib"):
            from axone.llm import python_source

            data = Path(folder, "python.txt")
            data.write_text(python_source(), encoding="utf-8")
        elif data is None:
            parser.error("--data is required: name the file of tiny Shakespeare")
        order = list(entries)
        for seed in range(options.seeds):
            for name in order[seed % len(order) :] + order[: seed % len(order)]:
                runs[name].append(run(entries[name], track, data, seed, options))
                if options.json:  # after each run: a track of an hour may be cut short
                    content = {"track": options.track, "quick": options.quick, "machine": machine(), "runs": runs}
                    options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
                last = runs[name][-1][-1]
                print(
                    f"{name}, seed {seed}: {last['step']:,} steps, {last['seconds']:.2f} s, steps alone "
                    f"{last['stepping']:.2f} s, loss {last['loss']:.4f}, {last['bits_per_byte']:.4f} bits per byte",
                    file=sys.stderr,
                    flush=True,
                )
    print(f"{track.title}\n\n{table(track, runs)}\n")
    print(", ".join(f"{name} {value}" for name, value in machine().items()))
    if options.plot:
        plot(track, runs, options.plot)


if __name__ == "__main__":
    main()
