"""Rotary positions: turn pairs of a head's channels by an angle that grows with the position.

The product of a query and a key then depends on their distance only. Channel i is paired with channel ``i + D / 2``,
as in Hugging Face's Llama; a turn by the angle a takes ``(x1, x2)`` to ``(x1 cos a - x2 sin a, x2 cos a + x1 sin a)``.
Its gradient is turned back: the same with ``-sin a``.

References
----------
.. [1] J. Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding",
   https://arxiv.org/abs/2104.09864
"""

import numpy as np

from axone.autograd import Tensor
from axone.autograd.extend import Array, record
from axone.nn.functional.checks import misfit, one_dtype


def apply_rotary(x: Tensor, cos: Array, sin: Array) -> Tensor:
    """Return the heads of `x`, turned.

    Parameters
    ----------
    x : Tensor, shape (..., T, D)
        Such as queries of shape (B, H, T, D).
    cos, sin : ndarray, broadcasts to (..., T, D / 2)
        Of the angles, as `axone.nn.RotaryEmbedding.tables` has them.

    Returns
    -------
    Tensor, shape (..., T, D)

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    one_dtype("apply_rotary", x)
    if x.ndim < 2 or x.shape[-1] != 2 * cos.shape[-1] or cos.shape[-2] not in {1, x.shape[-2]}:
        raise misfit("apply_rotary", f"(..., {cos.shape[-2]}, {2 * cos.shape[-1]})", x.shape)
    cos, sin = cos.astype(x.dtype, copy=False), sin.astype(x.dtype, copy=False)
    y = np.empty_like(x.data)
    _turn(x.data, cos, sin, y)

    def vjp(g: Array) -> tuple[Array]:
        dx = np.empty_like(g)
        _turn(g, cos, -sin, dx)
        return (dx,)

    return record("apply_rotary", y, (x,), vjp)


def packed_rotary(qkv: Tensor, cos: Array, sin: Array, num_heads: int, num_kv_heads: int) -> Tensor:
    """Return queries, keys and values that lie in one array, the first two turned.

    Parameters
    ----------
    qkv : Tensor, shape (B, T, (H + 2 K) D)
        As `packed_attention` takes it.
    cos, sin : ndarray, shape (T, D / 2) or (B, T, D / 2)
    num_heads, num_kv_heads : int
        H and K.

    Returns
    -------
    Tensor, shape (B, T, (H + 2 K) D)
    """
    B, T, width = qkv.shape
    heads, turned = num_heads + 2 * num_kv_heads, num_heads + num_kv_heads
    cos, sin = cos[..., None, :], sin[..., None, :]  # (..., T, 1, D / 2)

    def turn(packed: Array, sin: Array) -> Array:
        split = packed.reshape(B, T, heads, width // heads)
        out = np.empty_like(split)
        _turn(split[:, :, :turned], cos, sin, out[:, :, :turned])
        out[:, :, turned:] = split[:, :, turned:]
        return out.reshape(B, T, width)

    return record("packed_rotary", turn(qkv.data, sin), (qkv,), lambda g: (turn(g, -sin),))


def _turn(x: Array, cos: Array, sin: Array, out: Array) -> None:
    """Write the turned pairs of channels into `out`."""
    half = x.shape[-1] // 2
    x1, x2 = x[..., :half], x[..., half:]
    y1, y2 = out[..., :half], out[..., half:]
    np.multiply(x1, cos, out=y1)
    y1 -= x2 * sin
    np.multiply(x2, cos, out=y2)
    y2 += x1 * sin
