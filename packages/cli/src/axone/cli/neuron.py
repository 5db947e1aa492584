"""Train a small network of single neurons to separate two moons, and draw it.

  axone neuron                                         about ten seconds
  axone neuron --neurons 4 --steps 200                 one layer of four neurons
  axone neuron --optimizer sgd --learning-rate 0.5 --steps 200

Every number is a Value that keeps its inputs for the backward pass; there are no arrays. Two pictures are written:
boundary.png, the output of the network for every point of the plane, and neuron.svg, one neuron with all its numbers and
their gradients.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Value, draw
from axone.autograd.optim import SGD, Adam, Optimizer
from axone.cli import console
from axone.cli.console import UserError
from axone.cli.invocation import CommandParser
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
LARGEST_OUTPUT = 1e6  # the targets are 1 and -1: a network with larger outputs has diverged
CLASSES = ((1.0, "darkred", "o"), (-1.0, "darkblue", "s"))  # red is 1 and blue -1, as in the picture of the output
GRID = 60  # points per side of the picture


@dataclass
class History:
    """Loss and accuracy of each step.

    Attributes
    ----------
    losses, accuracies : list of float
        Mean loss, and fraction of points with the right sign.
    """

    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = CommandParser(
        usage="axone neuron [options]",
        description=__doc__,
        width=30,
    )
    add = parser.add_argument
    add(
        "--neurons",
        type=int,
        nargs="+",
        default=[8, 8],
        metavar="N",
        help="neurons of each hidden layer (default: 8 8)",
    )
    add(
        "--activation",
        choices=("tanh", "relu", "leaky_relu", "sigmoid"),
        default="tanh",
        help="activation function (default: tanh)",
    )
    add("--points", type=int, default=100, metavar="N", help="number of points (default: 100)")
    add("--noise", type=float, default=0.12, metavar="X", help="standard deviation from the moons (default: 0.12)")
    add("--steps", type=int, default=80, metavar="N", help="number of updates (default: 80)")
    add("--optimizer", choices=("adam", "sgd"), default="adam", help="optimizer (default: adam)")
    add("--learning-rate", type=float, metavar="X", help="learning rate (default: 0.1 for adam, 1 for sgd)")
    add("--seed", type=int, default=0, metavar="N", help="seed of points and initial weights (default: 0)")
    add("--out", type=Path, default=Path("runs/neuron"), metavar="FOLDER", help="output folder (default: %(default)s)")
    options = parser.parse(arguments)
    if options.learning_rate is None:
        options.learning_rate = LEARNING_RATES[options.optimizer]
    for name, (least, most) in RANGES.items():
        value = getattr(options, name)
        if not least <= value <= most:
            allowed = f"at least {least}" if most == math.inf else f"from {least} to {most}"
            parser.error(f"--{name.replace('_', '-')} ({value}) must be {allowed}")
    if min(options.neurons) < 1:
        parser.error(f"--neurons ({' '.join(map(str, options.neurons))}) must be at least 1 in each layer")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Train and draw; return the exit status."""
    options = parse(arguments)
    rng = np.random.default_rng(options.seed)
    points, targets = two_moons(options.points, options.noise, rng)
    network = MLP(2, [*options.neurons, 1], activation=options.activation, rng=rng)
    parameters = network.parameters()
    optimizer = (Adam if options.optimizer == "adam" else SGD)(parameters, lr=options.learning_rate)
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"{sum(options.neurons) + 1} neurons, {len(parameters)} weights, {len(points)} points")

    history = train(network, optimizer, points, targets, options.steps)
    boundary, drawing = options.out / "boundary.png", options.out / "neuron.svg"
    console.save_picture(plot(network, points, targets, history), boundary, dpi=120)
    optimizer.zero_grad()
    first = network.layers[0].neurons[0]
    output = first(points[0].tolist())
    output.backward()
    names = {"w1": first.weights[0], "w2": first.weights[1], "bias": first.bias}
    with console.writing(drawing):
        draw(output, names=names).save(drawing)
    print(f"\n{boundary}    output of the network for every point of the plane")
    print(f"{drawing}      first neuron of the network, for the first point")
    return console.SUCCESS


def two_moons(count: int, noise: float, rng: np.random.Generator) -> tuple[Points, list[float]]:
    """Return points on two interlocking half circles, and the target of each: 1 or -1."""
    angles = rng.uniform(0, np.pi, count)
    targets = np.where(np.arange(count) % 2, -1.0, 1.0)
    upper = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    lower = np.stack([1 - np.cos(angles), 0.5 - np.sin(angles)], axis=1)
    points = np.where(targets[:, None] > 0, upper, lower) + rng.normal(0, noise, (count, 2))
    return points, targets.tolist()


def outputs(network: MLP, points: Points) -> list[Value]:
    """Return the outputs of the network for some points.

    Raises
    ------
    UserError
        If the network has diverged.
    """
    values = [network(point)[0] for point in points.tolist()]
    for value in values:
        if not abs(value.data) <= LARGEST_OUTPUT:  # also if it is NaN, for which the loss would be 0
            raise UserError(
                f"an output of the network ({value.data:.3g}) is beyond {LARGEST_OUTPUT:,.0f}: lower --learning-rate"
            )
    return values


def train(network: MLP, optimizer: Optimizer, points: Points, targets: Sequence[float], steps: int) -> History:
    """Minimize the hinge loss: outputs above 1 for one moon and below -1 for the other."""
    history = History()
    for step in range(1, steps + 1):
        scores = outputs(network, points)
        loss = sum(((1.0 - target * score).relu() for target, score in zip(targets, scores)), Value(0.0)) / len(targets)
        history.losses.append(loss.data)
        history.accuracies.append(sum(target * score.data > 0 for target, score in zip(targets, scores)) / len(targets))
        if step == 1 or step % 10 == 0 or step == steps:
            print(f"step {step:4}   loss {loss.data:.4f}   accuracy {history.accuracies[-1]:4.0%}", flush=True)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return history


def plot(network: MLP, points: Points, targets: Sequence[float], history: History) -> "Figure":
    """Return a picture of the network's output and the points, beside the curves of loss and accuracy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    (x1, x2), (y1, y2) = ((low - 0.5, high + 0.5) for low, high in zip(points.min(axis=0), points.max(axis=0)))
    xs, ys = np.linspace(x1, x2, GRID), np.linspace(y1, y2, GRID)
    heights = [[value.data for value in outputs(network, np.stack([xs, np.full(GRID, y)], axis=1))] for y in ys]
    shade = left.contourf(xs, ys, heights, levels=np.linspace(-2, 2, 17), cmap="RdBu_r", extend="both", alpha=0.6)
    left.contour(
        xs, ys, heights, levels=[-1, 0, 1], colors="black", linewidths=[0.8, 2, 0.8], linestyles=["--", "-", "--"]
    )
    for target, color, marker in CLASSES:
        left.scatter(
            *points[np.asarray(targets) == target].T,
            c=color,
            marker=marker,
            edgecolors="white",
            zorder=2,
            label=f"target {target:g}",
        )
    left.legend(loc="upper right")
    left.set(
        title=f"output of {sum(len(layer.neurons) for layer in network.layers)} neurons",
        xlabel="first input",
        ylabel="second input",
        aspect="equal",
    )
    figure.colorbar(shade, ax=left, ticks=[-2, -1, 0, 1, 2], shrink=0.85)
    steps = range(1, len(history.losses) + 1)
    right.plot(steps, history.losses, color="tab:blue", label="loss")
    right.plot(steps, history.accuracies, color="tab:green", label="accuracy")
    right.set(xlabel="step", ylim=(0, None), title=f"final accuracy {history.accuracies[-1]:.0%}")
    right.grid(alpha=0.3)
    right.legend(loc="center right")
    return figure
