"""Einstein summation.

The gradient of an operand is an Einstein summation too: of the output's gradient with the other operands, over the axes
that the operand does not have. Three cases are special: an axis that only this operand has (the gradient is constant
along it), a letter that occurs twice in the operand (the gradient lies on the diagonal), and the ellipsis.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from axone.autograd.arrays import Array, unbroadcast
from axone.autograd.ops.dtypes import many_operands
from axone.autograd.record import record
from axone.autograd.tensor import Operand, Tensor, needs_grad

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def einsum(subscripts: str, *operands: Operand, optimize: bool = False) -> Tensor:
    """Return sums of products over named axes.

    Parameters
    ----------
    subscripts : str
        A letter for each axis of each operand and of the output, ``"ij,jk->ik"``; ``...`` means the other axes.
        Without an output, it has the letters that occur once, in alphabetical order.
    *operands : Tensor or array_like
    optimize : bool, default False
        Whether to search for a fast order of products, which pays off for large operands.

    Returns
    -------
    Tensor

    Raises
    ------
    ValueError
        If subscripts and shapes do not fit.

    Examples
    --------
    >>> import axone.autograd as ag
    >>> a, b = ag.Tensor([[1.0, 2.0]]), ag.Tensor([[3.0, 4.0], [5.0, 6.0]])
    >>> ag.einsum("ij,kj->ik", a, b)
    Tensor([[11., 17.]])
    """
    arrays = many_operands("einsum", operands)
    shapes = ", ".join(str(array.shape) for array in arrays)
    try:
        terms, output = _explicit(subscripts, arrays)
        data = np.einsum(f"{','.join(terms)}->{output}", *arrays, optimize=optimize)
    except ValueError as error:
        raise ValueError(f"einsum {subscripts!r} does not fit shapes {shapes or 'of none'}: {error}") from None
    needs = [needs_grad(x) for x in operands]

    def vjp(g: Array) -> list[Array | None]:
        return [_gradient(g, output, terms, arrays, k, optimize) if need else None for k, need in enumerate(needs)]

    return record("einsum", data, operands, vjp)


def _explicit(subscripts: str, arrays: Sequence[Array]) -> tuple[list[str], str]:
    """Return the subscripts of each operand and of the output, with letters instead of the ellipsis."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(arrays):
        raise ValueError(f"{len(terms)} subscripts for {len(arrays)} operands")
    hidden = [array.ndim - len(term.replace("...", "")) if "..." in term else 0 for term, array in zip(terms, arrays)]
    free = [letter for letter in _LETTERS if letter not in subscripts]
    letters = "".join(free[: max(hidden, default=0)])
    terms = [term.replace("...", letters[len(letters) - n :]) for term, n in zip(terms, hidden)]
    if not arrow:
        every = "".join(term.replace("...", "") for term in inputs.split(","))
        return terms, letters + "".join(sorted(letter for letter in set(every) if every.count(letter) == 1))
    return terms, output.replace("...", letters)


def _gradient(g: Array, output: str, terms: list[str], arrays: list[Array], k: int, optimize: bool) -> Array:
    """Return the gradient of operand `k`."""
    own, shape = "".join(dict.fromkeys(terms[k])), arrays[k].shape
    lengths = dict(zip(terms[k], shape))
    rest = terms[:k] + terms[k + 1 :]
    known = "".join(letter for letter in own if letter in output or any(letter in term for term in rest))
    part = np.einsum(f"{','.join([output, *rest])}->{known}", g, *arrays[:k], *arrays[k + 1 :], optimize=optimize)
    missing = tuple(i for i, letter in enumerate(own) if letter not in known)
    part = np.expand_dims(part, missing)
    full = tuple(lengths[letter] for letter in own)
    part = np.broadcast_to(part, np.broadcast_shapes(part.shape, full))
    if own == terms[k]:
        return part
    dx = np.zeros(shape, g.dtype)
    np.einsum(f"{terms[k]}->{own}", dx)[...] = unbroadcast(part, full)  # a view of the diagonal
    return dx
