"""Teach a small network of single neurons to tell two moons apart, and draw what it has learned.

  uv run apps/neuron.py                                         about ten seconds
  uv run apps/neuron.py --neurons 4 --steps 200                 is one layer of four enough?
  uv run apps/neuron.py --optimizer sgd --learning-rate 0.5 --steps 200

Every number is a Value that remembers what it was computed from: no arrays. It leaves two pictures: boundary.png, how
the network answers everywhere; and neuron.svg, one neuron with every number in it and its gradient.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import console
from console import UserError

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Value, draw
from axone.autograd.optim import SGD, Adam, Optimizer
from axone.nn.scalar import MLP

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Points = NDArray[np.float64]
LEARNING_RATES = {"adam": 0.1, "sgd": 1.0}
RANGES: dict[str, tuple[float, float]] = {
    "points": (2, math.inf),
    "noise": (0, 10),
    "steps": (1, math.inf),
    "learning_rate": (0, 1000),
    "seed": (0, math.inf),
}
LARGEST_ANSWER = 1e6  # of a network that still learns: all that it should say is 1 or -1
GRID = 60  # places on each side, at which the picture asks the network


@dataclass
class History:
    """How learning went.

    Attributes
    ----------
    losses, right : list of float
        At each step, the mean loss and the share of points on the right side.
    """

    losses: list[float] = field(default_factory=list)
    right: list[float] = field(default_factory=list)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Return what the user asked for."""
    parser = argparse.ArgumentParser(
        prog="neuron.py",
        usage="uv run apps/neuron.py [options]",
        description=__doc__,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30),
    )
    add = parser.add_argument
    add("--neurons", type=int, nargs="+", default=[8, 8], metavar="N", help="in each hidden layer (default: 8 8)")
    add("--activation", choices=("tanh", "relu", "leaky_relu", "sigmoid"), default="tanh", help="(default: tanh)")
    add("--points", type=int, default=100, metavar="N", help="how many to learn from (default: 100)")
    add("--noise", type=float, default=0.12, metavar="X", help="how far they stray from the moons (default: 0.12)")
    add("--steps", type=int, default=80, metavar="N", help="how often all weights move (default: 80)")
    add("--optimizer", choices=("adam", "sgd"), default="adam", help="how they move (default: adam)")
    add("--learning-rate", type=float, metavar="X", help="how far (default: 0.1 for adam, 1 for sgd)")
    add("--seed", type=int, default=0, metavar="N", help="of points and first weights (default: 0)")
    add(
        "--out",
        type=Path,
        default=Path("runs/neuron"),
        metavar="FOLDER",
        help="for the pictures (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    if options.learning_rate is None:
        options.learning_rate = LEARNING_RATES[options.optimizer]
    for name, (least, most) in RANGES.items():
        value = getattr(options, name)
        if not least <= value <= most:
            allowed = f"at least {least}" if most == math.inf else f"from {least} to {most}"
            parser.error(f"--{name.replace('_', '-')} must be {allowed}, and is {value}")
    if min(options.neurons) < 1:
        parser.error(f"--neurons must be at least 1 in each layer, and are {' '.join(map(str, options.neurons))}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Learn and draw; return the exit code."""
    options = parse(arguments)
    rng = np.random.default_rng(options.seed)
    points, sides = two_moons(options.points, options.noise, rng)
    network = MLP(2, [*options.neurons, 1], activation=options.activation, rng=rng)
    parameters = network.parameters()
    optimizer = (Adam if options.optimizer == "adam" else SGD)(parameters, lr=options.learning_rate)
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{sum(options.neurons) + 1} neurons, {len(parameters)} weights, {len(points)} points")

    history = learned(network, optimizer, points, sides, options.steps)
    figure = picture(network, points, sides, history)
    with console.writing(options.out / "boundary.png"):
        figure.savefig(options.out / "boundary.png", dpi=120)
    optimizer.zero_grad()
    first = network.layers[0].neurons[0]
    answer = first(points[0].tolist())
    answer.backward()
    names = {"w1": first.weights[0], "w2": first.weights[1], "bias": first.bias}
    with console.writing(options.out / "neuron.svg"):
        draw(answer, names=names).save(options.out / "neuron.svg")
    print(f"\n{options.out / 'boundary.png'}    how the network answers everywhere")
    print(f"{options.out / 'neuron.svg'}      its first neuron, on the first point")
    return console.SUCCESS


def two_moons(count: int, noise: float, rng: np.random.Generator) -> tuple[Points, list[float]]:
    """Return points on two half circles that reach into each other, and the side of each: 1 or -1."""
    turn = rng.uniform(0, np.pi, count)
    sides = np.where(np.arange(count) % 2, -1.0, 1.0)
    upper = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    lower = np.stack([1 - np.cos(turn), 0.5 - np.sin(turn)], axis=1)
    points = np.where(sides[:, None] > 0, upper, lower) + rng.normal(0, noise, (count, 2))
    return points, sides.tolist()


def answers(network: MLP, points: Points) -> list[Value]:
    """Return what the network answers at some points.

    Raises
    ------
    UserError
        If its weights have run away.
    """
    scores = [network(point)[0] for point in points.tolist()]
    for score in scores:
        if not abs(score.data) <= LARGEST_ANSWER:  # and if it is NaN, of which `relu` makes a loss of 0
            raise UserError(
                f"the network must answer with numbers up to {LARGEST_ANSWER:,.0f}, and one is {score.data:.3g}: lower "
                f"--learning-rate"
            )
    return scores


def learned(network: MLP, optimizer: Optimizer, points: Points, sides: Sequence[float], steps: int) -> History:
    """Move the weights, step by step, to where the network answers above 1 on one side and below -1 on the other."""
    history = History()
    for step in range(1, steps + 1):
        scores = answers(network, points)
        loss = sum(((1.0 - side * score).relu() for side, score in zip(sides, scores)), Value(0.0)) / len(sides)
        history.losses.append(loss.data)
        history.right.append(sum(side * score.data > 0 for side, score in zip(sides, scores)) / len(sides))
        if step == 1 or step % 10 == 0 or step == steps:
            print(f"step {step:4}   loss {loss.data:.4f}   {history.right[-1]:4.0%} on the right side", flush=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return history


def picture(network: MLP, points: Points, sides: Sequence[float], history: History) -> "Figure":
    """Return the network's answers everywhere, with the points, beside how its loss fell."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    (x1, x2), (y1, y2) = ((low - 0.5, high + 0.5) for low, high in zip(points.min(axis=0), points.max(axis=0)))
    xs, ys = np.linspace(x1, x2, GRID), np.linspace(y1, y2, GRID)
    heights = [[answer.data for answer in answers(network, np.stack([xs, np.full(GRID, y)], axis=1))] for y in ys]
    shade = left.contourf(xs, ys, heights, levels=np.linspace(-2, 2, 17), cmap="RdBu", extend="both", alpha=0.8)
    left.contour(
        xs, ys, heights, levels=[-1, 0, 1], colors="black", linewidths=[0.8, 2, 0.8], linestyles=["--", "-", "--"]
    )
    left.scatter(*points.T, c=sides, cmap="RdBu", vmin=-1.4, vmax=1.4, edgecolors="black", linewidths=0.8, zorder=2)
    left.set(
        title=f"what {sum(len(layer.neurons) for layer in network.layers)} neurons answer",
        xlabel="first input",
        ylabel="second input",
        aspect="equal",
    )
    figure.colorbar(shade, ax=left, ticks=[-2, -1, 0, 1, 2], shrink=0.85)
    steps = range(1, len(history.losses) + 1)
    right.plot(steps, history.losses, color="tab:blue", label="loss")
    right.plot(steps, history.right, color="tab:green", label="share on the right side")
    right.set(xlabel="step", ylim=(0, None), title=f"{history.right[-1]:.0%} on the right side in the end")
    right.grid(alpha=0.3)
    right.legend(loc="center right")
    return figure


if __name__ == "__main__":
    sys.exit(console.run(main))
