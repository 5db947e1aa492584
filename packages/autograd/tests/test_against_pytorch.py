"""Values, gradients and optimizer steps against PyTorch's, frozen in files by the script beside them."""

import json
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import axone.autograd as ag
from axone.autograd import Tensor, Value, ops, optim
from axone.autograd.ops import NONDIFFERENTIABLE
from axone.autograd.optim import muon

FOLDER = Path(__file__).parent / "frozen"


def read(name: str) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    return content


OPERATIONS = read("operations.json")
NOT_FROZEN = {"astype", "split", *NONDIFFERENTIABLE}
FIRST = {"einsum": "subscripts", "where": "condition"}  # arguments before the inputs

ON_NUMBERS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "power": operator.pow,
    "negative": operator.neg,
}


def test_every_operation_is_frozen() -> None:
    assert {row["operation"] for row in OPERATIONS} == set(ops.__all__) - NOT_FROZEN


@pytest.mark.parametrize("row", OPERATIONS, ids=[row["operation"] for row in OPERATIONS])
def test_operations_in_float32(row: dict[str, Any]) -> None:
    name, options = row["operation"], dict(row["options"])
    first = [options.pop(FIRST[name])] if name in FIRST else []
    inputs = [Tensor(x, requires_grad=True) for x in row["inputs"]]
    arguments = [inputs] if name in {"concatenate", "hstack", "stack", "vstack"} else inputs
    output = getattr(ops, name)(*first, *arguments, **options)
    output.backward(row["weights"])
    expected = [row["output"], *row["gradients"]]
    for found, frozen in zip([output.data, *(x.grad for x in inputs)], expected, strict=True):
        np.testing.assert_allclose(found, frozen, rtol=1.3e-6, atol=1e-5)  # torch.testing.assert_close's for float32


def run(graph: dict[str, Any], leaves: list[Any], operations: dict[str, Callable[..., Any]]) -> Any:
    results = [*leaves]
    for name, *operands in graph["program"]:
        arguments = [x[0] if isinstance(x, list) else results[x] for x in operands]
        results.append(operations[name](*arguments))
    return results[-1]


def test_random_graphs_on_value_on_tensor_and_in_pytorch() -> None:
    curves = ["exp", "log", "tanh", "sigmoid", "relu", "leaky_relu"]
    on_values = ON_NUMBERS | {name: getattr(Value, name) for name in curves}
    on_tensors = ON_NUMBERS | {name: getattr(ag, name) for name in curves}
    graphs = read("graphs.json")
    assert len(graphs) >= 200
    assert {step[0] for graph in graphs for step in graph["program"]} == set(on_values)
    for graph in graphs:
        values = [Value(x) for x in graph["inputs"]]
        tensors = [Tensor(np.float64(x), requires_grad=True) for x in graph["inputs"]]
        y, t = run(graph, values, on_values), run(graph, tensors, on_tensors)
        y.backward()
        t.backward()
        mine = np.array([y.data, *(x.grad for x in values)])
        theirs = np.array([t.item(), *(0.0 if x.grad is None else x.grad for x in tensors)], dtype=np.float64)
        np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(mine, [graph["output"], *graph["gradients"]], rtol=1e-12, atol=1e-12)


def five_steps(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Orthogonalize a wide matrix by PyTorch's iteration, which begins at the Frobenius norm."""
    x = matrix / np.linalg.norm(matrix)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.775 * square + 2.0315 * square @ square) @ x
    return x


@pytest.mark.parametrize("row", read("optimizers.json"), ids=lambda row: f"{row['optimizer']}-{row['options']}")
def test_optimizers(row: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(muon, "orthogonal", five_steps)
    p = Tensor(np.array(row["start"]), requires_grad=True)
    optimizer = getattr(optim, row["optimizer"])([p], **row["options"])
    for gradient in row["gradients"]:
        p.grad = np.array(gradient)
        optimizer.step()
    # PyTorch orthogonalizes in bfloat16, of 8 bits, for Muon
    tolerance = 0.02 if row["optimizer"] == "Muon" else 1e-12
    np.testing.assert_allclose(p.data, row["end"], rtol=0, atol=tolerance)
