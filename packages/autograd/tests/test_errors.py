"""Error messages for misuse, compared word by word."""

from collections.abc import Callable

import numpy as np
import pytest

import axone.autograd as ag
from axone.autograd import Tensor, Value, grad
from axone.autograd.extend import record
from axone.autograd.optim import SGD


def parameter(*shape: int, dtype: type = np.float32) -> Tensor:
    return Tensor(np.ones(shape, dtype), requires_grad=True)


def backward_twice() -> None:
    y = (parameter(2) * 2).sum()
    y.backward()
    y.backward()


def write_to_what_the_graph_needs() -> None:
    x = parameter(2)
    y = x * x
    x[0] = 1.0
    y.sum().backward()


def write_to_a_result() -> None:
    y = parameter(2) * 2
    y[0] = 1.0


def write_what_requires_gradients() -> None:
    Tensor([1.0, 2.0])[0] = parameter()


def write_to_a_parameter() -> None:
    parameter(2)[0] = 1.0


def short_vjp() -> None:
    record("short", np.ones(2), (parameter(2), parameter(2)), lambda g: (g,)).sum().backward()


def misshapen_vjp() -> None:
    record("misshapen", np.ones(2), (parameter(3),), lambda g: (g,)).sum().backward()


def complex_values_inside() -> None:
    ag.abs(parameter(2)[:1] * 1j).sum().backward()


def complex_gradient_into_a_buffer() -> None:
    x = parameter(2)
    x.grad = np.ones(2, np.float32)
    ag.abs(x * 1j).sum().backward()


@pytest.mark.parametrize(
    ("misuse", "error", "message"),
    [
        *(
            (
                misuse,
                TypeError,
                (
                    f"backward needs real numbers, got complex128 of shape {shape}: compute with the real and the "
                    "imaginary part as separate Tensors"
                ),
            )
            for misuse, shape in (
                ((parameter() * 1j).backward, ()),
                ((parameter(1) * 1j).backward, (1,)),
                (lambda: (parameter(2) * 1j).backward(np.ones(2)), (2,)),
                (lambda: grad((parameter(2) * 1j).sum(), []), ()),
                (lambda: ag.abs(parameter(2) * 1j).sum().backward(), (2,)),
                (complex_values_inside, (1,)),
                (complex_gradient_into_a_buffer, (2,)),
            )
        ),
        *(
            (lambda data=data: Tensor(data), TypeError, f"a Tensor needs numbers, got {what}")
            for data, what in (
                (None, "None: a missing number is float('nan')"),
                ([1.0, None], "list of dtype object"),
                ("1.5", "str"),
                (["1.5"], "list of dtype <U3"),
                (np.array([None]), "ndarray of dtype object"),
                (np.datetime64("2025-01-01"), "datetime64 of dtype datetime64[D]"),
                (Value(1.0), "Value"),
            )
        ),
        (
            (parameter(2, 3) * 2).backward,
            ValueError,
            (
                "backward of a Tensor of shape (2, 3) needs a gradient: reduce it to a single number, for instance with "
                "sum(), or call backward(gradient)"
            ),
        ),
        (
            lambda: parameter(2, 3).backward(np.ones(3)),
            ValueError,
            "gradient has shape (3,), it must have the Tensor's shape (2, 3)",
        ),
        (
            lambda: setattr(parameter(2, 3), "grad", np.ones(3)),
            ValueError,
            "grad has shape (3,), it must have the Tensor's shape (2, 3)",
        ),
        (
            lambda: grad(parameter(2).sum(), parameter(2)),  # type: ignore[arg-type]  # the point
            TypeError,
            "inputs of grad must be a sequence of Tensors, got one Tensor: put it into a list",
        ),
        (
            lambda: ag.pad(parameter(2), ((1, 2), (3, 4))),
            ValueError,
            "pad_width (((1, 2), (3, 4))) must be a number, (before, after), or one such pair for each axis of shape (2,)",
        ),
        (
            lambda: SGD(parameter(2), lr=0.1),
            ValueError,
            ("parameter 0 is the result of 'getitem' and not a leaf: pass a list of the Tensors that you created"),
        ),
        (
            lambda: SGD([{"lr": 0.1}], lr=0.1),
            ValueError,
            "a parameter group needs the key 'params', got ['lr']",
        ),
        (
            backward_twice,
            RuntimeError,
            (
                "backward has already consumed 'sum' of shape (): compute the output again, or add up the losses and call "
                "backward on their sum"
            ),
        ),
        (
            lambda: Tensor([1.0]).backward(),
            RuntimeError,
            (
                "backward of a Tensor of shape (1,) needs recorded operations: compute it from a Tensor with "
                "requires_grad=True, outside of no_grad()"
            ),
        ),
        (
            lambda: grad(Tensor([1.0]), []),
            RuntimeError,
            (
                "backward of a Tensor of shape (1,) needs recorded operations: compute it from a Tensor with "
                "requires_grad=True, outside of no_grad()"
            ),
        ),
        (
            write_to_what_the_graph_needs,
            RuntimeError,
            (
                "an in-place write would change a Tensor of shape (2,) that is part of a graph: call backward first, "
                "write to a copy, or use where()"
            ),
        ),
        (
            write_to_a_result,
            RuntimeError,
            (
                "an in-place write would change a Tensor of shape (2,) that is part of a graph: call backward first, "
                "write to a copy, or use where()"
            ),
        ),
        (
            write_to_a_parameter,
            RuntimeError,
            (
                "an in-place write to a Tensor of shape (2,) that requires gradients is not recorded: write inside "
                "no_grad(), or use where()"
            ),
        ),
        (
            write_what_requires_gradients,
            RuntimeError,
            (
                "an in-place write of values of shape () that require gradients is not recorded: write their .data, or "
                "use where() or concatenate()"
            ),
        ),
        (
            lambda: Tensor(np.arange(3), requires_grad=True),
            TypeError,
            (
                "requires_grad=True needs floating-point numbers, got int64: convert them, for instance with "
                "dtype=np.float32"
            ),
        ),
        (
            lambda: parameter(2) + parameter(2, dtype=np.float64),
            TypeError,
            (
                "add needs Tensors of one floating-point dtype, got float32 and float64: convert the float64 one with "
                "astype(numpy.float32)"
            ),
        ),
        (
            lambda: ag.concatenate([parameter(2), parameter(2, dtype=np.float64)]),
            TypeError,
            (
                "concatenate needs Tensors of one floating-point dtype, got float32 and float64: convert the float64 one "
                "with astype(numpy.float32)"
            ),
        ),
        (
            lambda: parameter(2).astype(int),
            TypeError,
            "astype(int64) would drop the gradients of a Tensor: call detach() first",
        ),
        (
            lambda: parameter(2, 3) * parameter(2),
            ValueError,
            "multiply needs shapes that broadcast, got (2, 3) and (2,)",
        ),
        (
            lambda: ag.where(np.ones(4, bool), parameter(2, 3), 0.0),
            ValueError,
            "where needs shapes that broadcast, got (4,), (2, 3) and ()",
        ),
        (
            lambda: ag.dot(parameter(2, 3), parameter(2, 3)),
            ValueError,
            "dot needs equal lengths of contracted axes, got axes [1] of shape (2, 3) and [0] of (2, 3)",
        ),
        (
            lambda: ag.tensordot(parameter(2, 3), parameter(2, 3)[:1]),
            ValueError,
            "tensordot needs equal lengths of contracted axes, got axes [0, 1] of shape (2, 3) and [0, 1] of (1, 3)",
        ),
        (
            lambda: ag.norm(parameter(2), ord=3),
            ValueError,
            "ord (3) of norm over 1 axes must be None, 1, 2 or inf",
        ),
        (
            lambda: ag.norm(parameter(2, 3), ord=1),
            ValueError,
            "ord (1) of norm over 2 axes must be None or 'fro'",
        ),
        (
            lambda: ag.norm(parameter(2, 3, 1), ord="fro"),
            ValueError,
            "ord ('fro') of norm over 3 axes must be None",
        ),
        (
            lambda: ag.hstack([parameter(2, 3), parameter(3, 3)]),
            ValueError,
            "hstack needs shapes that are equal except along axis 1, got (2, 3), (3, 3)",
        ),
        (
            lambda: ag.vstack([]),
            ValueError,
            "vstack needs shapes that are equal except along axis 0, got none",
        ),
        (
            lambda: parameter(2, 3) % parameter(2),
            ValueError,
            "remainder needs shapes that broadcast, got (2, 3) and (2,)",
        ),
        (
            lambda: parameter(2, 3) @ parameter(2, 3),
            ValueError,
            "matmul needs shapes (..., n, k) and (..., k, m), got (2, 3) and (2, 3)",
        ),
        (
            lambda: parameter(2, 2, 3) @ parameter(3, 3, 2),
            ValueError,
            "matmul needs shapes (..., n, k) and (..., k, m), got (2, 2, 3) and (3, 3, 2)",
        ),
        (
            lambda: parameter() @ parameter(2),
            ValueError,
            "matmul needs shapes (..., n, k) and (..., k, m), got () and (2,)",
        ),
        (
            lambda: parameter(2, 3).reshape(4, -1),
            ValueError,
            "reshape needs a shape of 6 elements for shape (2, 3), got (4, -1)",
        ),
        (
            lambda: parameter(2, 3).transpose(0, 0),
            ValueError,
            "axes (0, 0) of transpose must name each axis of shape (2, 3) once",
        ),
        (
            lambda: parameter(2, 4, 3).transpose(1, 2),
            ValueError,
            "axes (1, 2) of transpose must name each axis of shape (2, 4, 3) once: swapaxes(1, 2) swaps two axes",
        ),
        (
            lambda: parameter(2, 3).squeeze(0),
            ValueError,
            "axis 0 of shape (2, 3) must have length one for squeeze",
        ),
        (
            lambda: ag.broadcast_to(parameter(2, 3), (2, 4)),
            ValueError,
            "shape (2, 3) does not broadcast to (2, 4)",
        ),
        (
            lambda: ag.concatenate([parameter(2, 3), parameter(2)]),
            ValueError,
            "concatenate needs shapes that are equal except along axis 0, got (2, 3), (2,)",
        ),
        (
            lambda: ag.stack([parameter(2, 3), parameter(2)]),
            ValueError,
            "stack needs arrays of one shape, got (2, 3), (2,)",
        ),
        (
            lambda: ag.split(parameter(2, 3), 3, axis=3),
            np.exceptions.AxisError,
            "axis 3 is out of bounds for array of dimension 2",
        ),
        (
            lambda: ag.concatenate([parameter(2, 3), parameter(2, 3)], axis=4),
            np.exceptions.AxisError,
            "axis 4 is out of bounds for array of dimension 2",
        ),
        (
            lambda: ag.split(parameter(5), 2),
            ValueError,
            "split cannot divide axis 0 of shape (5,) into 2 equal parts",
        ),
        (
            lambda: ag.pad(parameter(5), 2, mode="mean"),
            ValueError,
            "mode ('mean') of pad must be 'constant' or one of ('edge', 'reflect', 'symmetric', 'wrap')",
        ),
        (
            lambda: parameter(0, 3).max(axis=0),
            ValueError,
            "max needs at least one element, got shape (0, 3) over axis 0",
        ),
        (
            lambda: ag.clip(parameter(2), parameter(2), None),
            TypeError,
            "clip needs constant bounds, got one that requires gradients: use maximum and minimum",
        ),
        (
            lambda: parameter(2) + "1",
            TypeError,
            "add needs numbers beside a Tensor, got str",
        ),
        (
            lambda: parameter(2) * Value(1.0),  # type: ignore[operator]  # the misuse under test
            TypeError,
            "multiply needs numbers beside a Tensor, got Value",
        ),
        (
            lambda: parameter(2, 3).item(),
            ValueError,
            "item needs a Tensor of one element, got shape (2, 3)",
        ),
        (
            lambda: list(parameter()),
            TypeError,
            "iteration needs a Tensor of at least one axis, got shape (): use item()",
        ),
        (
            short_vjp,
            ValueError,
            "the vjp of 'short' must return a gradient or None for each of its 2 inputs, and returned 1",
        ),
        (
            misshapen_vjp,
            ValueError,
            "the vjp of 'misshapen' returned a gradient of shape (2,) for an input of shape (3,)",
        ),
    ],
)
def test_message(misuse: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        misuse()
    assert str(raised.value) == message


@pytest.mark.parametrize(
    "name", ["sum", "prod", "mean", "var", "std", "max", "min", "cumsum", "softmax", "log_softmax", "logsumexp"]
)
@pytest.mark.parametrize("axis", ["x", 1.5, [0], (0, 1.5)])
def test_an_axis_that_is_not_an_integer(name: str, axis: object) -> None:
    with pytest.raises(TypeError) as raised:
        getattr(ag, name)(parameter(2, 3), axis=axis)
    what = "an integer" if name == "cumsum" else "an integer or a tuple of integers"
    assert str(raised.value) == f"axis ({axis!r}) of {name} must be {what}"


def test_einsum_with_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"^einsum 'ij,jk->ik' does not fit shapes \(2, 3\), \(2, 3\): "):
        ag.einsum("ij,jk->ik", parameter(2, 3), parameter(2, 3))
