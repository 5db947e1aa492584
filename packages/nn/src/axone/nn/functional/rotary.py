"""Rotary position embedding: rotates pairs of a head's channels by an angle proportional to the position.

The product of a query and a key then depends only on the distance between their positions. Channel i is paired with channel ``i + D / 2``,
as in Hugging Face's Llama; a rotation by the angle a maps ``(x1, x2)`` to ``(x1 cos a - x2 sin a, x2 cos a + x1 sin a)``.
The gradient is rotated back, by ``-a``.

References
----------
.. [1] J. Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding",
   https://arxiv.org/abs/2104.09864
"""

import numpy as np

from axone.autograd import Tensor
from axone.autograd.extend import Array, empty_like, record
from axone.nn.functional.validation import check_dtypes, shape_error


def apply_rotary(x: Tensor, cos: Array, sin: Array) -> Tensor:
    """Rotate the heads of `x`.

    Parameters
    ----------
    x : Tensor, shape (..., T, D)
        Such as queries of shape (B, H, T, D).
    cos, sin : ndarray, broadcasts to (..., T, D / 2)
        Of the angles, from `axone.nn.RotaryEmbedding.tables`.

    Returns
    -------
    Tensor, shape (..., T, D)

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    check_dtypes("apply_rotary", x)
    if x.ndim < 2 or x.shape[-1] != 2 * cos.shape[-1] or cos.shape[-2] not in {1, x.shape[-2]}:
        raise shape_error("apply_rotary", f"(..., {cos.shape[-2]}, {2 * cos.shape[-1]})", x.shape)
    half = cos.shape[-1]
    cos, sin = cos.astype(x.dtype, copy=False), sin.astype(x.dtype, copy=False)
    cos, sin = np.tile(cos, 2), np.concatenate((-sin, sin), axis=-1)  # (..., D)

    def rotate(data: Array, sin: Array) -> Array:
        out = empty_like(data)
        out[..., :half], out[..., half:] = data[..., half:], data[..., :half]
        out *= sin
        out += data * cos
        return out

    return record("apply_rotary", rotate(x.data, sin), (x,), lambda g: (rotate(g, -sin),))


def rotate_in_place(heads: Array, cos: Array, sin: Array) -> None:
    """Rotate heads in place, without a tape.

    Parameters
    ----------
    heads : ndarray, shape (..., T, D)
    cos, sin : ndarray, broadcasts to (..., T, D / 2)
    """
    half = heads.shape[-1] // 2
    x, y = heads[..., :half], heads[..., half:]
    rotated = x * cos - y * sin
    y *= cos
    y += x * sin
    x[...] = rotated
