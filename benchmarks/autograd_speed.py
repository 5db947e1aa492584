"""Benchmark of axone-autograd: speed and memory against micrograd, MyGrad, HIPS autograd and PyTorch eager.

    python benchmarks/autograd_speed.py --peer-python ~/peers/bin/python

The peers' Python needs `pip install torch micrograd mygrad "autograd[scipy]"`. Each figure is a median over new processes, one per
library and run; the libraries take turns, so that other load on the machine affects all of them. A process reports the fastest of
several rounds. `--clock cpu` measures processor time instead of wall time, which is more reliable on a shared machine.

- moons: one training step of micrograd's example, an MLP 2-16-16-1 with ReLU, hinge loss and L2 on 100 points of two moons, computed
  number by number; and the same network on Tensors. The peak memory is that of the whole process.
- small: an operation on 8 elements (matmul of (2, 4) and (4, 2)), its sum, the backward pass to all inputs, and clearing the gradients;
  an MLP with three layers, width 32, batch 16. All libraries use one thread, which is fastest for these sizes.
- wide: an MLP with three layers, width 1024, batch 1024, forward and backward, on all cores; and its eight matrix products alone.
  Gradients are cleared as each library does it: PyTorch frees their memory, Axone keeps and overwrites it.
- import: the time that `import axone.autograd` adds to `import numpy`.
"""

import argparse
import itertools
import json
import math
import os
import random
import statistics
import subprocess
import sys
import time

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
LIBRARIES = {
    "moons": ("axone", "micrograd", "axone-tensor"),
    "small": ("axone", "mygrad", "autograd", "torch"),
    "wide": ("axone", "torch"),
    "import": ("axone",),
}
SMALL = ("add", "multiply", "exp", "matmul", "sum", "softmax", "mlp")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default=sys.executable, help="Python interpreter with the peer libraries")
    parser.add_argument("--runs", type=int, default=5, help="processes per library and task")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="clock for all times")
    parser.add_argument("--task", choices=LIBRARIES, action="append", help="task to run, repeatable; all by default")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        task, library = options.one
        clock = time.process_time if options.clock == "cpu" else time.perf_counter
        print(json.dumps({**TASKS[task](library, clock), "peak": peak_megabytes()}))
        return
    for task in options.task or LIBRARIES:
        compare(task, options)


def compare(task, options):
    runs = {library: [] for library in LIBRARIES[task]}
    # Python writes .pyc files after an installation; without them each import would compile the sources.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(options.runs):
        for library, results in runs.items():
            python = sys.executable if library.startswith("axone") else options.peer_python
            command = [python, __file__, "--one", task, library, "--clock", options.clock]
            environment = inherited | (ONE_THREAD if task == "small" else {})
            done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"\n{task}, medians of {options.runs} processes, {options.clock} clock")
    for row in runs["axone"][0]:
        if row == "peak":
            continue
        ours = statistics.median(result[row] for result in runs["axone"])
        print(f"  {row:14}", end="")
        for library, results in runs.items():
            seconds = statistics.median(result[row] for result in results)
            print(f"{library} {readable(seconds)}{'' if library == 'axone' else factor(seconds / ours)}", end="   ")
        print()
    peaks = (f"{library} {statistics.median(r['peak'] for r in results):.0f} MB" for library, results in runs.items())
    print(f"  {'peak memory':14}{'   '.join(peaks)}")


def factor(ratio):
    return f" ({ratio:.3g}x)" if ratio >= 0.1 else f" (1/{1 / ratio:.3g})"


def readable(seconds):
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} us"
    return f"{seconds * 1e3:.1f} ms"


def peak_megabytes():
    try:
        import resource
    except ImportError:  # Windows has no such module
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def fastest(function, calls, clock, rounds=9):
    function()
    best = math.inf
    for _ in range(rounds):
        start = clock()
        for _ in range(calls):
            function()
        best = min(best, (clock() - start) / calls)
    return best


# Two moons, on Values and on Tensors


def two_moons():
    rng = random.Random(1)
    points, signs = [], []
    for i in range(100):
        angle, outer = math.pi * rng.random(), i % 2 == 0
        x, y = (math.cos(angle), math.sin(angle)) if outer else (1 - math.cos(angle), 0.5 - math.sin(angle))
        points.append((x + rng.gauss(0, 0.1), y + rng.gauss(0, 0.1)))
        signs.append(1 if outer else -1)
    return points, signs


class ScalarMLP:
    """micrograd's network, on any class of scalars."""

    def __init__(self, value, sizes):
        rng = random.Random(2)
        self.layers = [
            [([value(rng.uniform(-1, 1)) for _ in range(n)], value(0.0)) for _ in range(m)]
            for n, m in itertools.pairwise(sizes)
        ]
        self.parameters = [p for layer in self.layers for weights, bias in layer for p in (*weights, bias)]

    def score(self, x):
        """Return the score of a point."""
        for i, layer in enumerate(self.layers):
            x = [sum((w * number for w, number in zip(weights, x)), bias) for weights, bias in layer]
            if i < len(self.layers) - 1:
                x = [number.relu() for number in x]
        return x[0]


def moons(library, clock):
    points, signs = two_moons()
    if library == "axone-tensor":
        return {"step": fastest(moons_on_tensors(points, signs), 20, clock)}
    if library == "axone":
        from axone.autograd import Value
    else:
        from micrograd.engine import Value
    model = ScalarMLP(Value, (2, 16, 16, 1))

    def step():
        scores = [model.score([Value(x) for x in point]) for point in points]
        hinge = sum((1 + -sign * score).relu() for sign, score in zip(signs, scores)) * (1 / len(points))
        loss = hinge + 1e-4 * sum(p * p for p in model.parameters)
        for p in model.parameters:
            p.grad = 0.0
        loss.backward()
        for p in model.parameters:
            p.data -= 0.05 * p.grad

    return {"step": fastest(step, 1, clock)}


def moons_on_tensors(points, signs):
    import numpy as np

    from axone.autograd import Tensor, relu
    from axone.autograd.optim import SGD

    rng = np.random.default_rng(0)
    weights = [Tensor(rng.uniform(-1, 1, shape), requires_grad=True) for shape in ((2, 16), (16, 16), (16, 1))]
    biases = [Tensor(np.zeros(n), requires_grad=True) for n in (16, 16, 1)]
    optimizer = SGD([*weights, *biases], lr=0.05)
    x, y = np.array(points), np.array(signs)[:, None]

    def step():
        h = relu(x @ weights[0] + biases[0])
        h = relu(h @ weights[1] + biases[1])
        loss = relu(1 - y * (h @ weights[2] + biases[2])).mean()
        for p in (*weights, *biases):
            loss += 1e-4 * (p * p).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


# Small operations and a wide network


def small(library, clock):
    import numpy as np

    rng = np.random.default_rng(0)
    data = {name: rng.normal(size=8).astype(np.float32) for name in ("a", "b")}
    data |= {"m": rng.normal(size=(2, 4)).astype(np.float32), "n": rng.normal(size=(4, 2)).astype(np.float32)}
    network = parameters(np, rng, 32), rng.normal(size=(16, 32)).astype(np.float32)
    steps = {"axone": small_axone, "torch": small_torch, "mygrad": small_mygrad, "autograd": small_autograd}[library]
    chosen = steps(data, network)
    return {name: fastest(chosen[name], 300 if name == "mlp" else 2000, clock) for name in SMALL}


def parameters(np, rng, width):
    weights = [(rng.normal(size=(width, width)) / math.sqrt(width)).astype(np.float32) for _ in range(3)]
    return weights, [np.zeros(width, np.float32) for _ in range(3)]


def small_axone(data, network):
    import axone.autograd as ag

    return with_tensors(lambda array: ag.Tensor(array, requires_grad=True), ag, ag.softmax, data, network)


def small_torch(data, network):
    import torch

    (weights, biases), x = network
    network = (weights, biases), torch.tensor(x)
    return with_tensors(
        lambda array: torch.tensor(array, requires_grad=True), torch, lambda t: torch.softmax(t, -1), data, network
    )


def small_mygrad(data, network):
    import mygrad
    from mygrad.nnet.activations import softmax

    return with_tensors(mygrad.tensor, mygrad, softmax, data, network, clear=False)  # cleared by its next operation


def with_tensors(tensor, library, softmax, data, network, *, clear=True):
    """Return the steps for a library whose tensors have a method `backward`."""
    a, b, m, n = (tensor(data[name]) for name in "abmn")
    exp, matmul = library.exp, library.matmul

    def step(compute, *inputs):
        def run():
            compute().sum().backward()
            if clear:
                for t in inputs:
                    t.grad = None

        return run

    return {
        "add": step(lambda: a + b, a, b),
        "multiply": step(lambda: a * b, a, b),
        "exp": step(lambda: exp(a), a),
        "matmul": step(lambda: matmul(m, n), m, n),
        "sum": sum_step(a, clear=clear),
        "softmax": step(lambda: softmax(a), a),
        "mlp": mlp_step(tensor, matmul, library.tanh, network, clear=clear),
    }


def sum_step(a, *, clear):
    def run():
        a.sum().backward()
        if clear:
            a.grad = None

    return run


def mlp_step(tensor, matmul, curve, network, *, clear=True, in_place=False):
    (weights, biases), x = network
    weights, biases = [tensor(w) for w in weights], [tensor(b) for b in biases]

    def run():
        mlp_loss(matmul, curve, weights, biases, x).backward()
        if clear:
            for t in (*weights, *biases):
                if in_place:
                    t.zero_grad()
                else:
                    t.grad = None

    return run


def mlp_loss(matmul, curve, weights, biases, h):
    for i, (w, b) in enumerate(zip(weights, biases)):
        h = matmul(h, w) + b
        if i < 2:
            h = curve(h)
    return (h * h).mean()


def small_autograd(data, network):
    import autograd.numpy as np
    from autograd import grad
    from autograd.scipy.special import logsumexp

    def mlp(weights, biases, h):
        for i, (w, b) in enumerate(zip(weights, biases)):
            h = np.dot(h, w) + b
            if i < 2:
                h = np.tanh(h)
        return np.mean(h * h)

    a, b, m, n = (data[name] for name in "abmn")
    (weights, biases), x = network
    both = (0, 1)
    add, multiply = grad(lambda a, b: np.sum(a + b), both), grad(lambda a, b: np.sum(a * b), both)
    exp, matmul = grad(lambda a: np.sum(np.exp(a))), grad(lambda m, n: np.sum(np.dot(m, n)), both)
    total, softmax = grad(np.sum), grad(lambda a: np.sum(np.exp(a - logsumexp(a))))
    network_gradient = grad(mlp, both)
    return {
        "add": lambda: add(a, b),
        "multiply": lambda: multiply(a, b),
        "exp": lambda: exp(a),
        "matmul": lambda: matmul(m, n),
        "sum": lambda: total(a),
        "softmax": lambda: softmax(a),
        "mlp": lambda: network_gradient(weights, biases, x),
    }


def wide(library, clock):
    import numpy as np

    rng = np.random.default_rng(0)
    network = parameters(np, rng, 1024), rng.normal(size=(1024, 1024)).astype(np.float32)
    if library == "axone":
        from axone.autograd import Tensor, matmul, relu

        run = mlp_step(lambda array: Tensor(array, requires_grad=True), matmul, relu, network, in_place=True)
        x, product = network[1], np.matmul
    else:
        import torch

        network = network[0], torch.tensor(network[1])
        run = mlp_step(lambda array: torch.tensor(array, requires_grad=True), torch.matmul, torch.relu, network)
        x, product = network[1], torch.matmul

    def products():
        for _ in range(8):  # three forward, three for gradients of weights, two for gradients of inputs
            product(x, x)

    return {"step": fastest(run, 2, clock, rounds=8), "its products": fastest(products, 2, clock, rounds=8)}


def importing(_library, clock):
    start = clock()
    import numpy as np  # noqa: F401 - the import is measured

    between = clock()
    import axone.autograd as ag  # noqa: F401 - likewise

    end = clock()
    return {"numpy alone": between - start, "axone on top": end - between}


TASKS = {"moons": moons, "small": small, "wide": wide, "import": importing}

if __name__ == "__main__":
    main()
