"""Gradients of every operation against finite differences, at shapes and arguments that hypothesis generates.

A test run tries a few calls of each operation. As a script, this module tries many and prints a table:

    python packages/autograd/tests/test_gradients.py --examples 1000
"""

from __future__ import annotations

import argparse
import collections
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from axone.autograd import ops
from axone.autograd.ops import NONDIFFERENTIABLE
from axone.autograd.testing import check_grads

Shape = tuple[int, ...]
Call = tuple[Callable[..., Any], Sequence[Shape]]  # a function of as many Tensors as there are shapes

Draw = st.DrawFn
DOMAINS = {
    "divide": (0.5, 2.0),
    "power": (0.3, 2.0),
    "log": (0.2, 3.0),
    "log1p": (-0.8, 3.0),
    "sqrt": (0.2, 3.0),
    "remainder": (1.05, 2.0),
}
NOT_ANALYTIC = {
    *(
        "abs",
        "astype",
        "clip",
        "leaky_relu",
        "max",
        "maximum",
        "min",
        "minimum",
        "norm",
        "relu",
        "remainder",
        "sigmoid",
    ),
}

any_shape = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
filled_shape = hnp.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=4)
side = st.integers(0, 4)


def named(name: str) -> Any:
    return getattr(ops, name)


def unary(name: str) -> st.SearchStrategy[Call]:
    return st.tuples(st.just(named(name)), st.tuples(any_shape))


@st.composite
def binary(draw: Draw, name: str) -> Call:
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=4))
    return named(name), shapes.input_shapes


def axis_of(shape: Shape) -> st.SearchStrategy[int]:
    return st.integers(-len(shape), len(shape) - 1)


def axes_of(shape: Shape, fewest: int = 0) -> st.SearchStrategy[tuple[int, ...]]:
    """Return a tuple of distinct axes of a shape, counted from either end."""
    return (
        st.just(())
        if not shape
        else st.lists(axis_of(shape), min_size=fewest, unique_by=lambda axis: axis % len(shape)).map(tuple)
    )


def any_axes(shape: Shape) -> st.SearchStrategy[Any]:
    one_or_several = axis_of(shape) | axes_of(shape, 1) if shape else st.just(())
    return st.none() | one_or_several


@st.composite
def reduced(draw: Draw, name: str) -> Call:
    shape = draw(any_shape if name in {"sum", "prod"} else filled_shape)
    options = {"axis": draw(any_axes(shape)), "keepdims": draw(st.booleans())}
    if name in {"var", "std"}:
        axes = range(len(shape)) if options["axis"] is None else np.atleast_1d(options["axis"])
        count = int(np.prod([shape[int(axis)] for axis in axes]))
        options["ddof"] = draw(st.integers(0, max(count - 1, 0)))
        if name == "std" and count == 1:  # the deviation of one element has no derivative
            shape = (*shape, 2)
            options["axis"] = -1
            options["ddof"] = 0
    return lambda x: named(name)(x, **options), [shape]


@st.composite
def along(draw: Draw, name: str) -> Call:
    shape = draw(any_shape)
    one = st.none() | axis_of(shape) if shape else st.none()
    axis = draw(one if name == "cumsum" else any_axes(shape))
    return lambda x: named(name)(x, axis), [shape]


@st.composite
def clip(draw: Draw) -> Call:
    low, high = sorted(draw(st.lists(st.integers(-2, 2), min_size=2, max_size=2, unique=True)))
    bounds = draw(st.sampled_from([(low, high), (low, None), (None, high)]))
    return lambda x: ops.clip(x, *bounds), [draw(any_shape)]


@st.composite
def leaky_relu(draw: Draw) -> Call:
    return partial(ops.leaky_relu, negative_slope=draw(st.floats(-2, 2))), [draw(any_shape)]


@st.composite
def where(draw: Draw) -> Call:
    shapes = draw(hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, min_side=0, max_side=4)).input_shapes
    mask = draw(hnp.arrays(np.bool_, shapes[0]))
    return lambda a, b: ops.where(mask, a, b), shapes[1:]


@st.composite
def matmul(draw: Draw) -> Call:
    n, k, m = draw(side), draw(side), draw(side)
    batch = draw(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=2, min_side=0, max_side=3)).input_shapes
    left = draw(st.sampled_from([(k,), (n, k), (*batch[0], n, k)]))
    right = draw(st.sampled_from([(k,), (k, m), (*batch[1], k, m)]))
    return ops.matmul, [left, right]


@st.composite
def dot(draw: Draw) -> Call:
    k = draw(side)
    sides = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3)
    left, right = draw(sides), draw(sides)
    shapes = [(*left, k), (*right[:-1], k, *right[-1:])]
    return ops.dot, draw(st.sampled_from([shapes, [(), shapes[1]], [shapes[0], ()]]))


@st.composite
def tensordot(draw: Draw) -> Call:
    shape = draw(any_shape)
    over = draw(axes_of(shape))
    contracted = [shape[axis] for axis in over]
    other = draw(st.permutations([*enumerate(contracted), *((-1, n) for n in draw(any_shape)[:2])]))
    labels = [label for label, _ in other]
    axes = (over, tuple(labels.index(i) for i in range(len(over))))
    return lambda a, b: ops.tensordot(a, b, axes), [shape, tuple(n for _, n in other)]


@st.composite
def norm(draw: Draw) -> Call:
    shape = draw(filled_shape)
    axis = draw(any_axes(shape))
    count = len(shape) if axis is None else len(axis) if isinstance(axis, tuple) else 1
    ord: Any = draw(st.sampled_from([None, 1, 2, np.inf] if count == 1 else [None, "fro"] if count == 2 else [None]))
    keepdims = draw(st.booleans())
    return lambda x: ops.norm(x, ord, axis, keepdims=keepdims), [shape]


@st.composite
def repeat(draw: Draw) -> Call:
    shape = draw(any_shape)
    axis = draw(st.none() | axis_of(shape) if shape else st.none())
    length = int(np.prod(shape)) if axis is None else shape[axis]
    repeats = draw(st.integers(0, 3) | st.lists(st.integers(0, 3), min_size=length, max_size=length))
    return lambda x: ops.repeat(x, repeats, axis), [shape]


@st.composite
def stacked(draw: Draw, name: str) -> Call:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    lengths = draw(st.lists(side, min_size=1, max_size=4))
    rows = name == "vstack" and len(shape) == 1  # whose only axis has one length
    axis = min(1, len(shape) - 1) if name == "hstack" else 0
    shapes = [shape if rows else (*shape[:axis], n, *shape[axis + 1 :]) for n in lengths]
    return lambda *arrays: named(name)(arrays), shapes


@st.composite
def einsum(draw: Draw) -> Call:
    sizes = {label: draw(side) for label in "ijkl"}
    operands = draw(st.lists(st.text("ijkl", max_size=3), min_size=1, max_size=3))
    used = sorted(set("".join(operands)))
    subscripts = ",".join(operands)
    if draw(st.booleans()):
        kept = draw(st.lists(st.sampled_from(used), unique=True)) if used else []
        subscripts += "->" + "".join(kept)
    shapes = [tuple(sizes[label] for label in operand) for operand in operands]
    return lambda *arrays: ops.einsum(subscripts, *arrays), shapes


@st.composite
def reshape(draw: Draw) -> Call:
    shape = draw(any_shape)
    after = list(draw(st.permutations(shape)))
    while len(after) > 1 and draw(st.booleans()):
        after[-2:] = [after[-2] * after[-1]]
    if after and 0 not in after and draw(st.booleans()):
        after[draw(st.integers(0, len(after) - 1))] = -1
    return lambda x: ops.reshape(x, after), [shape]


@st.composite
def transpose(draw: Draw) -> Call:
    shape = draw(any_shape)
    order = draw(st.none() | st.permutations(range(len(shape))))
    return lambda x: ops.transpose(x, order), [shape]


@st.composite
def swapaxes(draw: Draw) -> Call:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    first, second = draw(axis_of(shape)), draw(axis_of(shape))
    return lambda x: ops.swapaxes(x, first, second), [shape]


@st.composite
def expand_dims(draw: Draw) -> Call:
    shape = draw(any_shape)
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    return lambda x: ops.expand_dims(x, axis), [shape]


@st.composite
def squeeze(draw: Draw) -> Call:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=2))
    ones = [i for i, size in enumerate(shape) if size == 1]
    axis = draw(st.none() | st.lists(st.sampled_from(ones), unique=True).map(tuple) if ones else st.none())
    return lambda x: ops.squeeze(x, axis), [shape]


@st.composite
def broadcast_to(draw: Draw) -> Call:
    shapes = draw(
        hnp.mutually_broadcastable_shapes(num_shapes=1, base_shape=draw(any_shape), max_dims=4, min_side=0, max_side=4)
    )
    return lambda x: ops.broadcast_to(x, shapes.result_shape), shapes.input_shapes


@st.composite
def flip(draw: Draw) -> Call:
    shape = draw(any_shape)
    axis = draw(any_axes(shape))
    return lambda x: ops.flip(x, axis), [shape]


@st.composite
def roll(draw: Draw) -> Call:
    shape = draw(any_shape)
    axis = draw(any_axes(shape) if shape else st.none())
    count = len(axis) if isinstance(axis, tuple) else 1
    shifts = draw(st.lists(st.integers(-5, 5), min_size=count, max_size=count).map(tuple))
    shift = shifts if isinstance(axis, tuple) else shifts[0]
    return lambda x: ops.roll(x, shift, axis), [shape]


@st.composite
def concatenate(draw: Draw) -> Call:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3))
    axis = draw(axis_of(shape))
    lengths = draw(st.lists(side, min_size=1, max_size=4))
    shapes = [tuple(n if i == axis % len(shape) else size for i, size in enumerate(shape)) for n in lengths]
    return lambda *arrays: ops.concatenate(arrays, axis), shapes


@st.composite
def stack(draw: Draw) -> Call:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    return lambda *arrays: ops.stack(arrays, axis), [shape] * draw(st.integers(1, 4))


@st.composite
def split(draw: Draw) -> Call:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6))
    axis = draw(axis_of(shape))
    length = shape[axis]
    equal = st.sampled_from([n for n in range(1, max(length, 1) + 1) if length % n == 0])
    sections = draw(equal | st.lists(st.integers(0, length), max_size=3).map(lambda places: tuple(sorted(places))))
    return lambda x: ops.split(x, sections, axis), [shape]


@st.composite
def take(draw: Draw) -> Call:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    axis = draw(st.none() | axis_of(shape))
    length = int(np.prod(shape)) if axis is None else shape[axis]
    shapes = hnp.array_shapes(min_dims=0, max_dims=2, min_side=0)
    indices = draw(hnp.arrays(np.int64, shapes, elements=st.integers(-length, length - 1)))
    return lambda x: ops.take(x, indices, axis), [shape]


@st.composite
def getitem(draw: Draw) -> Call:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    basic = hnp.basic_indices(shape, allow_newaxis=True)
    several = hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3))
    index = draw(basic | several | hnp.arrays(np.bool_, shape[: draw(st.integers(1, len(shape)))]))
    return lambda x: ops.getitem(x, index), [shape]


@st.composite
def pad(draw: Draw) -> Call:
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=3))
    mode = draw(st.sampled_from(["constant", "edge", "reflect", "symmetric", "wrap"]))
    width = draw(st.lists(st.tuples(side, side), min_size=len(shape), max_size=len(shape)))
    return lambda x: ops.pad(x, width, mode), [shape]


@st.composite
def triangle(draw: Draw, name: str) -> Call:
    shape = draw(hnp.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=4))
    return partial(named(name), k=draw(st.integers(-4, 4))), [shape]


CALLS: dict[str, st.SearchStrategy[Call]] = {
    **{name: unary(name) for name in ("abs", "copy", "cos", "exp", "log", "log1p", "negative", "positive", "ravel", "relu")},
    **{name: unary(name) for name in ("sigmoid", "sin", "sqrt", "square", "tanh")},
    **{name: binary(name) for name in ("add", "subtract", "multiply", "divide", "power", "remainder", "maximum", "minimum")},
    **{name: reduced(name) for name in ("sum", "prod", "mean", "var", "std", "max", "min", "logsumexp")},
    **{name: along(name) for name in ("cumsum", "softmax", "log_softmax")},
    **{name: stacked(name) for name in ("hstack", "vstack")},
    **{name: triangle(name) for name in ("tril", "triu")},
    "astype": st.tuples(st.just(partial(ops.astype, dtype=np.float64)), st.tuples(any_shape)), "broadcast_to": broadcast_to(), "clip": clip(), "concatenate": concatenate(),
    "dot": dot(), "norm": norm(), "outer": st.tuples(st.just(ops.outer), st.tuples(any_shape, any_shape)), "repeat": repeat(), "tensordot": tensordot(),
    "einsum": einsum(), "expand_dims": expand_dims(), "flip": flip(), "getitem": getitem(), "leaky_relu": leaky_relu(),
    "matmul": matmul(), "pad": pad(), "reshape": reshape(), "roll": roll(), "split": split(), "squeeze": squeeze(),
    "stack": stack(), "swapaxes": swapaxes(), "take": take(), "transpose": transpose(), "where": where(),
}  # fmt: skip


def points(name: str, shapes: Sequence[Shape], seed: int) -> list[NDArray[np.float64]]:
    """Return distinct numbers in random order, none near another or near an integer, so that no kink is near."""
    low, high = DOMAINS.get(name, (-2.0, 2.0))
    sizes = [int(np.prod(shape)) for shape in shapes]
    total = 4 * (sum(sizes) // 4 + 1)  # so that no integer is on the grid
    grid = low + (high - low) * (np.random.default_rng(seed).permutation(total) + 0.3) / total
    return [part.reshape(shape) for part, shape in zip(np.split(grid, np.cumsum(sizes)), shapes)]


def try_calls(name: str, examples: int) -> collections.Counter[Shape]:
    """Check the gradients of a number of calls of an operation; count the calls by the shape of the first input."""
    tried: collections.Counter[Shape] = collections.Counter()

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(call=CALLS[name], seed=st.integers(0, 2**32 - 1))
    def check(call: Call, seed: int) -> None:
        function, shapes = call
        inputs = points(name, shapes, seed)
        tried[shapes[0]] += 1
        check_grads(function, inputs, rng=np.random.default_rng(seed))
        if name not in NOT_ANALYTIC:
            check_grads(function, inputs, complex_step=True, rng=np.random.default_rng(seed))

    check()
    return tried


def test_every_operation_has_calls() -> None:
    assert sorted([*CALLS, *NONDIFFERENTIABLE]) == sorted(ops.__all__)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_gradients(name: str) -> None:
    assert try_calls(name, 12)


def main() -> None:
    """Try many calls of each operation, and print their number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000, help="calls of each operation")
    examples = parser.parse_args().examples
    start, total = time.perf_counter(), 0
    for name in sorted(CALLS):
        tried = try_calls(name, examples)
        total += tried.total()
        sys.stdout.write(f"{name:14}{tried.total():6} calls, {len(tried):4} shapes of the first input\n")
    sys.stdout.write(
        f"{len(CALLS)} operations, {total} calls, no wrong gradient, {time.perf_counter() - start:.0f} s\n"
    )


if __name__ == "__main__":
    main()
