"""Compute values and gradients with PyTorch, and write them to the JSON files beside this script.

Run with a Python that has PyTorch (made with 2.13)::

    python packages/autograd/tests/frozen/make_frozen.py

``operations.json``: every operation in float32, with the gradient of its output.
``graphs.json``: 200 random expressions of numbers in float64, as programs: a step is an operation and its operands,
each the number of an earlier result or, in a list of its own, a plain number.
``optimizers.json``: parameters after ten steps along given gradients, in float64.
"""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found]  # not installed in the workspace

FOLDER = Path(__file__).parent
F = torch.nn.functional


def write(name: str, content: Any) -> None:
    rows = ",\n".join(json.dumps(row) for row in content)
    (FOLDER / name).write_text(f"[\n{rows}\n]\n", encoding="utf-8")


# One call of each operation: its name, the shapes of its inputs, its options, and PyTorch's function.
MASK = [[True, False, True], [False, True, True]]
POSITIVE = {"log", "sqrt", "power", "divide"}
OPERATIONS: list[tuple[str, list[tuple[int, ...]], dict[str, Any], Any]] = [
    ("abs", [(2, 3)], {}, torch.abs),
    ("add", [(2, 3), (3,)], {}, torch.add),
    ("broadcast_to", [(3,)], {"shape": [2, 3]}, lambda x: torch.broadcast_to(x, (2, 3))),
    ("clip", [(2, 3)], {"a_min": -0.5, "a_max": 0.5}, lambda x: torch.clamp(x, -0.5, 0.5)),
    ("concatenate", [(2, 3), (1, 3)], {}, lambda *x: torch.cat(x)),
    ("cos", [(2, 3)], {}, torch.cos),
    ("cumsum", [(2, 3)], {"axis": 1}, lambda x: torch.cumsum(x, 1)),
    ("divide", [(2, 3), (2, 1)], {}, torch.div),
    ("einsum", [(2, 3), (4, 3)], {"subscripts": "ij,kj->ki"}, lambda *x: torch.einsum("ij,kj->ki", *x)),
    ("exp", [(2, 3)], {}, torch.exp),
    ("expand_dims", [(2, 3)], {"axis": 1}, lambda x: x.unsqueeze(1)),
    ("flip", [(2, 3)], {"axis": 1}, lambda x: torch.flip(x, (1,))),
    ("getitem", [(4, 3)], {"index": [2, 0, 2]}, lambda x: x[[2, 0, 2]]),
    ("leaky_relu", [(2, 3)], {"negative_slope": 0.2}, lambda x: F.leaky_relu(x, 0.2)),
    ("log", [(2, 3)], {}, torch.log),
    ("log1p", [(2, 3)], {}, torch.log1p),
    ("log_softmax", [(2, 4)], {}, lambda x: torch.log_softmax(x, -1)),
    ("logsumexp", [(2, 4)], {"axis": 0}, lambda x: torch.logsumexp(x, 0)),
    ("matmul", [(2, 2, 3), (3, 4)], {}, torch.matmul),
    ("max", [(2, 3)], {"axis": 1}, lambda x: torch.amax(x, 1)),
    ("maximum", [(2, 3), (2, 3)], {}, torch.maximum),
    ("mean", [(2, 3)], {"axis": 0, "keepdims": True}, lambda x: torch.mean(x, 0, keepdim=True)),
    ("min", [(2, 3)], {"axis": 1}, lambda x: torch.amin(x, 1)),
    ("minimum", [(2, 3), (2, 3)], {}, torch.minimum),
    ("multiply", [(2, 3), (2, 3)], {}, torch.mul),
    ("negative", [(2, 3)], {}, torch.neg),
    ("pad", [(2, 3)], {"pad_width": [[0, 1], [2, 1]]}, lambda x: F.pad(x, (2, 1, 0, 1))),
    ("power", [(2, 3), (2, 3)], {}, torch.pow),
    ("relu", [(2, 3)], {}, torch.relu),
    ("reshape", [(2, 3)], {"shape": [3, 2]}, lambda x: x.reshape(3, 2)),
    ("roll", [(2, 3)], {"shift": 1, "axis": 1}, lambda x: torch.roll(x, 1, 1)),
    ("sigmoid", [(2, 3)], {}, torch.sigmoid),
    ("sin", [(2, 3)], {}, torch.sin),
    ("softmax", [(2, 4)], {}, lambda x: torch.softmax(x, -1)),
    ("sqrt", [(2, 3)], {}, torch.sqrt),
    ("squeeze", [(2, 1, 3)], {"axis": 1}, lambda x: x.squeeze(1)),
    ("stack", [(2, 3), (2, 3)], {"axis": 1}, lambda *x: torch.stack(x, 1)),
    ("std", [(2, 3)], {"axis": 1, "ddof": 1}, lambda x: torch.std(x, 1)),
    ("subtract", [(2, 3), ()], {}, torch.sub),
    ("sum", [(2, 3)], {"axis": 1}, lambda x: torch.sum(x, 1)),
    ("swapaxes", [(2, 3, 2)], {"axis1": 0, "axis2": 1}, lambda x: x.swapaxes(0, 1)),
    ("take", [(2, 3)], {"indices": [5, 0, 5]}, lambda x: torch.take(x, torch.tensor([5, 0, 5]))),
    ("tanh", [(2, 3)], {}, torch.tanh),
    ("transpose", [(2, 3)], {}, lambda x: x.T),
    ("tril", [(3, 3)], {}, torch.tril),
    ("triu", [(3, 3)], {"k": 1}, lambda x: torch.triu(x, 1)),
    ("var", [(2, 3)], {}, lambda x: torch.var(x, unbiased=False)),
    ("where", [(2, 3), (2, 3)], {"condition": MASK}, lambda x, y: torch.where(torch.tensor(MASK), x, y)),
    ("copy", [(2, 3)], {}, torch.clone),
    ("dot", [(3,), (3,)], {}, torch.dot),
    ("hstack", [(2, 3), (2, 1)], {}, lambda *x: torch.hstack(x)),
    ("norm", [(2, 3)], {"axis": 1, "ord": 2}, lambda x: torch.linalg.vector_norm(x, 2, 1)),
    ("outer", [(2,), (3,)], {}, torch.outer),
    ("positive", [(2, 3)], {}, torch.positive),
    ("prod", [(2, 3)], {"axis": 1}, lambda x: torch.prod(x, 1)),
    ("ravel", [(2, 3)], {}, torch.ravel),
    ("remainder", [(2, 3), (3,)], {}, torch.remainder),
    ("repeat", [(2, 3)], {"repeats": 2, "axis": 1}, lambda x: x.repeat_interleave(2, 1)),
    ("square", [(2, 3)], {}, torch.square),
    (
        "tensordot",
        [(2, 3, 4), (4, 2)],
        {"axes": [[0, 2], [1, 0]]},
        lambda x, y: torch.tensordot(x, y, ([0, 2], [1, 0])),
    ),
    ("vstack", [(2, 3), (3,)], {}, lambda *x: torch.vstack(x)),
]


def operations() -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    rows = []
    for name, shapes, options, function in OPERATIONS:
        low, high = (0.3, 2.0) if name in POSITIVE else (-0.9, 2.0)
        arrays = [rng.uniform(low, high, shape).astype(np.float32) for shape in shapes]
        inputs = [torch.tensor(array, requires_grad=True) for array in arrays]
        output = function(*inputs)
        weights = rng.normal(size=tuple(output.shape)).astype(np.float32)
        output.backward(torch.tensor(weights))
        rows.append(
            {
                "operation": name,
                "options": options,
                "inputs": [array.tolist() for array in arrays],
                "output": output.tolist(),
                "weights": weights.tolist(),
                "gradients": [x.grad.tolist() for x in inputs],
            }
        )
    return rows


UNARY = {
    "negative": torch.neg,
    "exp": torch.exp,
    "log": torch.log,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
}
BINARY = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "divide": torch.div,
    "power": torch.pow,
}


def graph(rng: np.random.Generator) -> dict[str, Any]:
    inputs = [float(x) for x in rng.uniform(-2, 2, size=3).round(3)]
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in inputs]
    results: list[torch.Tensor] = [*leaves]
    program: list[list[Any]] = []
    while len(program) < 25:
        unary = rng.random() < 0.35
        name = str(rng.choice(list(UNARY if unary else BINARY)))
        picked = [int(i) for i in rng.integers(len(results), size=1 if unary else 2)]
        operands: list[Any] = [*picked]
        if not unary and rng.random() < 0.25:
            operands[rng.integers(2)] = [float(rng.choice([-2.0, -0.5, 0.5, 2.0, 3.0]))]
        numbers = [x[0] if isinstance(x, list) else results[x].item() for x in operands]
        if not suits(name, numbers, [isinstance(x, list) for x in operands]):
            continue
        arguments = [torch.tensor(x[0], dtype=torch.float64) if isinstance(x, list) else results[x] for x in operands]
        output = (UNARY if unary else BINARY)[name](*arguments)
        if 1e-3 < abs(output.item()) < 50 or name == "relu":
            results.append(output)
            program.append([name, *operands])
    used = {x for _, *operands in program for x in operands if not isinstance(x, list)}
    for i in sorted(set(range(len(results))) - used)[:-1]:  # so that the output depends on every result
        results.append(results[-1] + results[i])
        program.append(["add", len(results) - 2, i])
    results[-1].backward()
    return {
        "inputs": inputs,
        "program": program,
        "output": results[-1].item(),
        "gradients": [0.0 if x.grad is None else x.grad.item() for x in leaves],
    }


def suits(name: str, numbers: list[float], plain: list[bool]) -> bool:
    """Return whether an operation is defined and differentiable at these numbers."""
    x, y = numbers[0], numbers[-1]
    if name == "log":
        return x > 0.05
    if name == "exp":
        return x < 4
    if name in {"relu", "leaky_relu"}:
        return abs(x) > 1e-3
    if name == "divide":
        return abs(y) > 0.05
    if name == "power":
        whole = plain[1] and y == int(y)
        return abs(y) < 4 and abs(x) > 0.05 and (x > 0 or whole) and not math.isclose(x, 0)
    return True


def optimizers() -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    start = rng.normal(size=(4, 3))
    gradients = rng.normal(size=(10, 4, 3))
    table: list[tuple[str, dict[str, Any]]] = [
        ("SGD", {"lr": 0.1}),
        ("SGD", {"lr": 0.1, "momentum": 0.9}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        ("Adam", {"lr": 0.1}),
        ("Adam", {"lr": 0.1, "betas": [0.8, 0.95], "eps": 1e-3}),
        ("AdamW", {"lr": 0.1}),
        ("AdamW", {"lr": 0.1, "betas": [0.8, 0.95], "weight_decay": 0.2}),
        ("Muon", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
        ("Muon", {"lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}),
    ]
    rows = []
    for name, options in table:
        p = torch.nn.Parameter(torch.tensor(start))
        optimizer = getattr(torch.optim, name)([p], **options)
        for gradient in gradients:
            p.grad = torch.tensor(gradient)
            optimizer.step()
        rows.append(
            {
                "optimizer": name,
                "options": options,
                "start": start.tolist(),
                "gradients": gradients.tolist(),
                "end": p.tolist(),
            }
        )
    return rows


if __name__ == "__main__":
    write("operations.json", operations())
    generator = np.random.default_rng(2)
    write("graphs.json", [graph(generator) for _ in range(200)])
    write("optimizers.json", optimizers())
