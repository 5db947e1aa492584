"""Growth of a training step's time and memory with layers, channels, context and batch, beside PyTorch's.

    python benchmarks/growth.py [AXIS ...] [--peer-python PATH] [--json FILE] [--plot FILE]

From nanoGPT's small model one size varies at a time. Each time is the smallest of several races in new processes,
because PyTorch's differs by a third between processes; memory is the median. A ratio is PyTorch's figure divided by
ours. The target is that it is never more than 15 % below that of the first point of its axis. Memory has two columns:
the peak of a process with its children, and the part of it above the libraries, which is the part above the memory of
the process after it trained a very small model. Axes that are not measured again keep their figures in the file of
``--json``; the plot needs Matplotlib.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from harness import Contender, cores, machine, race

AXES = {
    "layers": (2, 4, 8, 16),
    "channels": (64, 128, 256, 512),
    "context": (64, 128, 256, 512, 1024),
    "batch": (4, 12, 32, 96),
}
HEAD_WIDTH = 32
WORST = 0.85  # part of the first point's ratio
QUANTITIES = {"seconds": (1e3, "step, ms"), "bytes": (2**-20, "memory, MiB"), "above": (2**-20, "above libraries, MiB")}


def measure(axis, size, options):
    """Return seconds, bytes, and bytes above the libraries, of Axone and PyTorch at one point."""
    shape = {"size": "small", "workers": options.threads, "threads": options.threads, "warm_up": True, axis: size}
    if axis == "channels":
        shape["heads"] = size // HEAD_WIDTH
    races = [
        race(
            {
                "Axone": Contender("axone_train.py", options=shape),
                "PyTorch": Contender("torch_train.py", options.peer_python, shape),
            },
            threads=options.threads,
            rounds=options.rounds,
        )
        for _ in range(options.races)
    ]
    return {
        name: {
            "seconds": min(results[name].seconds for results in races),
            "bytes": statistics.median(results[name].peak_memory for results in races),
            "above": statistics.median(results[name].peak_memory - results[name].memory_before for results in races),
        }
        for name in races[0]
    }


def ratios(points, quantity):
    """Return PyTorch's figure divided by ours for every size."""
    return [point["PyTorch"][quantity] / point["Axone"][quantity] for point in points.values()]


def table(measured):
    """Return the points as a Markdown table."""
    heads = " | ".join(f"{label} | PyTorch | ratio" for _, label in QUANTITIES.values())
    lines = [f"| | {heads} |", "|---" * (1 + 3 * len(QUANTITIES)) + "|"]
    for axis, points in measured.items():
        columns = {quantity: ratios(points, quantity) for quantity in QUANTITIES}
        for index, (size, point) in enumerate(points.items()):
            cells = [f"{axis} {size}"]
            for quantity, (unit, _) in QUANTITIES.items():
                cells += [f"{point[name][quantity] * unit:.4g}" for name in ("Axone", "PyTorch")]
                cells.append(f"{columns[quantity][index]:.2f}")
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(measured, path):
    """Draw every quantity against each axis."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        len(QUANTITIES), len(measured), figsize=(3 * len(measured), 7.5), squeeze=False, layout="constrained"
    )
    for column, (axis, points) in enumerate(measured.items()):
        sizes = [int(size) for size in points]
        for row, (quantity, (unit, label)) in enumerate(QUANTITIES.items()):
            panel = panels[row][column]
            for name, style in (("Axone", "o-"), ("PyTorch", "s--")):
                panel.plot(
                    sizes, [point[name][quantity] * unit for point in points.values()], style, label=name, markersize=4
                )
            panel.set(xscale="log", yscale="log", xlabel=axis, ylabel=label if column == 0 else "")
            panel.set_xticks(sizes, [str(size) for size in sizes])
            panel.xaxis.set_minor_locator(mpl.ticker.NullLocator())
            panel.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
            panel.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
            panel.yaxis.set_minor_locator(mpl.ticker.NullLocator())
            panel.grid(alpha=0.3)
    panels[0][0].legend(frameon=False)
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    """Measure the selected axes, and print, store and plot the figures of all measured axes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axes", nargs="*", metavar="AXIS", help=f"axes to measure: {', '.join(AXES)} (default: all)")
    parser.add_argument(
        "--peer-python",
        default=sys.executable,
        metavar="PATH",
        help="Python interpreter of an environment with PyTorch",
    )
    parser.add_argument(
        "--threads", type=int, default=cores(), metavar="N", help="threads per contender (default: all cores)"
    )
    parser.add_argument(
        "--races", type=int, default=4, metavar="N", help="races per point, in new processes (default: 4)"
    )
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="rounds of each race (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="file of all figures, read and updated")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="file of the plot, SVG or PNG")
    options = parser.parse_args()
    if unknown := set(options.axes) - set(AXES):
        parser.error(f"unknown axis: {', '.join(sorted(unknown))}; the axes are {', '.join(AXES)}")
    known = (
        json.loads(options.json.read_text(encoding="utf-8"))["axes"] if options.json and options.json.exists() else {}
    )
    for axis in options.axes or AXES:
        known[axis] = {}
        for size in AXES[axis]:
            print(f"{axis} {size}:", file=sys.stderr)
            known[axis][str(size)] = measure(axis, size, options)
    measured = {axis: known[axis] for axis in AXES if axis in known}
    print(table(measured))
    for axis, points in measured.items():
        for quantity in QUANTITIES:
            first, *others = ratios(points, quantity)
            if others and min(others) < WORST * first:
                print(f"{axis}: the ratio of {quantity} falls from {first:.2f} to {min(others):.2f}")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "axes": measured}, indent=2) + "\n", encoding="utf-8")
    if options.plot:
        plot(measured, options.plot)


if __name__ == "__main__":
    main()
