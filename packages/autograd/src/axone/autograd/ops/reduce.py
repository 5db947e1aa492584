"""Operations that reduce axes: sums, means, extremes."""

import numpy as np

from axone.autograd.arrays import Array, Axis, Shape
from axone.autograd.tensor import Tensor, record


def _axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """Return the reduced axes, counted from the front."""
    if axis is None:
        return tuple(range(ndim))
    return np.lib.array_utils.normalize_axis_tuple(axis, ndim)


def _kept(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """Return the shape with every reduced axis kept at length one."""
    return tuple(1 if i in axes else size for i, size in enumerate(shape))


def sum(x: Tensor, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Return the sum over `axis`, or over all axes."""
    shape, axes = x.shape, _axes(axis, x.ndim)
    kept = _kept(shape, axes)

    def vjp(g: Array) -> tuple[Array]:
        return (np.broadcast_to(g.reshape(kept), shape),)

    return record("sum", np.asarray(x.data.sum(axis=axes, keepdims=keepdims)), (x,), vjp)


def mean(x: Tensor, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Return the mean over `axis`, or over all axes."""
    shape, axes = x.shape, _axes(axis, x.ndim)
    kept = _kept(shape, axes)
    count = np.asarray(np.prod([shape[i] for i in axes]), dtype=x.dtype)

    def vjp(g: Array) -> tuple[Array]:
        return (np.broadcast_to(g.reshape(kept) / count, shape),)

    return record("mean", np.asarray(x.data.mean(axis=axes, keepdims=keepdims)), (x,), vjp)
