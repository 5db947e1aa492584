"""What a user can get wrong: the whole sentence of each error."""

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
                (None, "NoneType"),
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
                "backward without a gradient needs a single number, and this Tensor has shape (2, 3): reduce it first, for "
                "instance with sum(), or give backward(gradient)"
            ),
        ),
        (
            lambda: parameter(2, 3).backward(np.ones(3)),
            ValueError,
            "the gradient must have the Tensor's shape (2, 3), and it has (3,)",
        ),
        (
            lambda: setattr(parameter(2, 3), "grad", np.ones(3)),
            ValueError,
            "grad must have the Tensor's shape (2, 3), and this has (3,)",
        ),
        (
            lambda: grad(parameter(2).sum(), parameter(2)),  # type: ignore[arg-type]  # the point
            TypeError,
            "grad needs a sequence of Tensors, and got one: put it into a list",
        ),
        (
            lambda: ag.pad(parameter(2), ((1, 2), (3, 4))),
            ValueError,
            "pad needs a number, (before, after), or one such pair for each axis of shape (2,), and got ((1, 2), (3, 4))",
        ),
        (
            lambda: SGD(parameter(2), lr=0.1),
            ValueError,
            (
                "an optimizer needs Tensors that were made, not computed, and parameter 0 is the result of 'getitem': "
                "give it a list of parameters"
            ),
        ),
        (
            lambda: SGD([{"lr": 0.1}], lr=0.1),
            ValueError,
            "a group needs its parameters, under 'params', and has ['lr']",
        ),
        (
            backward_twice,
            RuntimeError,
            (
                "backward goes through a graph once, and 'sum' of shape () has already been passed: compute the output "
                "again, or add up the losses and call backward on their sum"
            ),
        ),
        (
            lambda: Tensor([1.0]).backward(),
            RuntimeError,
            (
                "backward needs a Tensor that was computed, while recording, from one with requires_grad=True, and this "
                "one of shape (1,) was not"
            ),
        ),
        (
            lambda: grad(Tensor([1.0]), []),
            RuntimeError,
            (
                "backward needs a Tensor that was computed, while recording, from one with requires_grad=True, and this "
                "one of shape (1,) was not"
            ),
        ),
        (
            write_to_what_the_graph_needs,
            RuntimeError,
            (
                "an in-place write needs a Tensor that no recorded operation depends on, and this one of shape (2,) is "
                "part of a graph: call backward first, write to a copy, or use where()"
            ),
        ),
        (
            write_to_a_result,
            RuntimeError,
            (
                "an in-place write needs a Tensor that no recorded operation depends on, and this one of shape (2,) is "
                "part of a graph: call backward first, write to a copy, or use where()"
            ),
        ),
        (
            write_to_a_parameter,
            RuntimeError,
            (
                "an in-place write is not recorded, and this Tensor of shape (2,) requires gradients: write inside "
                "no_grad(), or use where()"
            ),
        ),
        (
            write_what_requires_gradients,
            RuntimeError,
            (
                "an in-place write is not recorded, and the values of shape () require gradients: write their .data, or "
                "use where() or concatenate()"
            ),
        ),
        (
            lambda: Tensor(np.arange(3), requires_grad=True),
            TypeError,
            (
                "only a Tensor of floating-point numbers can require gradients, and this one is int64: convert it first, "
                "for instance with dtype=np.float32"
            ),
        ),
        (
            lambda: parameter(2) + parameter(2, dtype=np.float64),
            TypeError,
            (
                "add needs two Tensors of one floating-point dtype, and these are float32 and float64: convert one with "
                "astype()"
            ),
        ),
        (
            lambda: ag.concatenate([parameter(2), parameter(2, dtype=np.float64)]),
            TypeError,
            (
                "concatenate needs two Tensors of one floating-point dtype, and these are float32 and float64: convert "
                "one with astype()"
            ),
        ),
        (
            lambda: parameter(2).astype(int),
            TypeError,
            "no gradient flows through int64, and astype got a Tensor that requires one: detach() it",
        ),
        (
            lambda: parameter(2, 3) * parameter(2),
            ValueError,
            "multiply needs shapes that broadcast, and these are (2, 3) and (2,)",
        ),
        (
            lambda: ag.where(np.ones(4, bool), parameter(2, 3), 0.0),
            ValueError,
            "where needs shapes that broadcast, and these are (4,), (2, 3) and ()",
        ),
        (
            lambda: parameter(2, 3) @ parameter(2, 3),
            ValueError,
            "matmul needs shapes (..., n, k) and (..., k, m), and these are (2, 3) and (2, 3)",
        ),
        (
            lambda: parameter(2, 2, 3) @ parameter(3, 3, 2),
            ValueError,
            "matmul needs shapes (..., n, k) and (..., k, m), and these are (2, 2, 3) and (3, 3, 2)",
        ),
        (
            lambda: parameter() @ parameter(2),
            ValueError,
            "matmul needs shapes (..., n, k) and (..., k, m), and these are () and (2,)",
        ),
        (
            lambda: parameter(2, 3).reshape(4, -1),
            ValueError,
            "reshape needs a shape of 6 elements for shape (2, 3), and got (4, -1)",
        ),
        (
            lambda: parameter(2, 3).transpose(0, 0),
            ValueError,
            "transpose needs each axis of shape (2, 3) once, and got (0, 0)",
        ),
        (
            lambda: parameter(2, 3).squeeze(0),
            ValueError,
            "squeeze removes axes of length one, and got axis 0 for shape (2, 3)",
        ),
        (
            lambda: ag.broadcast_to(parameter(2, 3), (2, 4)),
            ValueError,
            "broadcast_to cannot stretch shape (2, 3) to (2, 4)",
        ),
        (
            lambda: ag.concatenate([parameter(2, 3), parameter(2)]),
            ValueError,
            "concatenate needs shapes that are equal except along axis 0, and these are (2, 3), (2,)",
        ),
        (
            lambda: ag.stack([parameter(2, 3), parameter(2)]),
            ValueError,
            "stack needs arrays of one shape, and these are (2, 3), (2,)",
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
            "split cannot cut shape (5,) into 2 along axis 0",
        ),
        (
            lambda: ag.pad(parameter(5), 2, mode="mean"),
            ValueError,
            "the mode of pad must be 'constant' or one of ('edge', 'reflect', 'symmetric', 'wrap'), and is 'mean'",
        ),
        (
            lambda: parameter(0, 3).max(axis=0),
            ValueError,
            "max needs at least one element, and there is none in shape (0, 3) over axis 0",
        ),
        (
            lambda: ag.clip(parameter(2), parameter(2), None),
            TypeError,
            "the bounds of clip are constants, and one requires gradients: use maximum and minimum",
        ),
        (
            lambda: parameter(2) + "1",
            TypeError,
            "add needs numbers beside a Tensor, and got str",
        ),
        (
            lambda: parameter(2) * Value(1.0),  # type: ignore[operator]  # the misuse under test
            TypeError,
            "multiply needs numbers beside a Tensor, and got Value",
        ),
        (
            lambda: parameter(2, 3).item(),
            ValueError,
            "item() needs a Tensor of one element, and this one has shape (2, 3)",
        ),
        (
            lambda: list(parameter()),
            TypeError,
            "a 0-d Tensor cannot be iterated over: use item()",
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
    "name", ["sum", "mean", "var", "std", "max", "min", "cumsum", "softmax", "log_softmax", "logsumexp"]
)
@pytest.mark.parametrize("axis", ["x", 1.5, [0], (0, 1.5)])
def test_what_is_no_axis_is_named(name: str, axis: object) -> None:
    with pytest.raises(TypeError) as raised:
        getattr(ag, name)(parameter(2, 3), axis=axis)
    what = "a whole number" if name == "cumsum" else "a whole number or a tuple of them"
    assert str(raised.value) == f"the axis of {name} must be {what}, and is {axis!r}"


def test_einsum_says_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"^einsum 'ij,jk->ik' does not fit shapes \(2, 3\), \(2, 3\): "):
        ag.einsum("ij,jk->ik", parameter(2, 3), parameter(2, 3))
