"""Every fused operation again, as the formula that one would write: slower, and what the fused ones must agree with.

Each is called as its namesake in `axone.nn.functional`, and checks nothing: what fits there fits here. Nothing here knows a
derivative: the engine finds them all.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor, concatenate, exp, log_softmax, tanh, where
from axone.autograd.extend import Array
from axone.nn.functional.attention import Mask


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias``.

    Parameters
    ----------
    x : Tensor, shape (..., in_features)
    weight : Tensor, shape (out_features, in_features)
    bias : Tensor, shape (out_features,), optional

    Returns
    -------
    Tensor, shape (..., out_features)
    """
    y = x @ weight.T
    return y if bias is None else y + bias


def gelu(x: Tensor) -> Tensor:
    """Return x times the probability that a normal variable is below x, in its tanh approximation.

    Parameters
    ----------
    x : Tensor, shape (...)

    Returns
    -------
    Tensor, shape (...)
    """
    return 0.5 * x * (1.0 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: Tensor) -> Tensor:
    """Return x times its logistic function.

    Parameters
    ----------
    x : Tensor, shape (...)

    Returns
    -------
    Tensor, shape (...)
    """
    return x / (1.0 + exp(-x))


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Return ``silu(gate) * up``.

    Parameters
    ----------
    gate, up : Tensor, shape (...)

    Returns
    -------
    Tensor, shape (...)
    """
    return silu(gate) * up


def relu2(x: Tensor) -> Tensor:
    """Return the square of x where it is positive, and else zero.

    Parameters
    ----------
    x : Tensor, shape (...)

    Returns
    -------
    Tensor, shape (...)
    """
    return where(x > 0, x, 0.0) ** 2


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Return the exponential of each score, divided by the sum over an axis.

    Parameters
    ----------
    x : Tensor, shape (..., S)
    axis : int, default -1

    Returns
    -------
    Tensor, shape (..., S)
    """
    p = exp(x - np.maximum(x.data.max(axis=axis, keepdims=True), np.finfo(x.dtype).min))  # a shift changes nothing
    total = p.sum(axis=axis, keepdims=True)
    return p / where(total > 0, total, 1.0)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float = 1e-5) -> Tensor:
    """Return each row shifted to mean 0, scaled to variance 1, then times `weight` plus `bias`.

    Parameters
    ----------
    x : Tensor, shape (..., C)
    weight : Tensor, shape (C,)
    bias : Tensor, shape (C,), optional
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    Tensor, shape (..., C)
    """
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = (centered * centered).mean(axis=-1, keepdims=True)
    y = centered / (variance + eps) ** 0.5 * weight
    return y if bias is None else y + bias


def rms_norm(x: Tensor, weight: Tensor, *, eps: float = 1e-6) -> Tensor:
    """Return each row divided by its root mean square, then times `weight`.

    Parameters
    ----------
    x : Tensor, shape (..., C)
    weight : Tensor, shape (C,)
    eps : float, default 1e-6
        Added to the mean square.

    Returns
    -------
    Tensor, shape (..., C)
    """
    return x / ((x * x).mean(axis=-1, keepdims=True) + eps) ** 0.5 * weight


def embedding(ids: NDArray[np.integer[Any]], weight: Tensor) -> Tensor:
    """Return the rows of `weight` that `ids` names.

    Parameters
    ----------
    ids : ndarray of int, shape (...)
    weight : Tensor, shape (num_embeddings, C)

    Returns
    -------
    Tensor, shape (..., C)
    """
    return weight[ids]


def dropout(x: Tensor, p: float, *, rng: np.random.Generator) -> Tensor:
    """Return `x` with each element zeroed with probability `p` and else divided by ``1 - p``.

    Parameters
    ----------
    x : Tensor, shape (...)
    p : float
        In [0, 1).
    rng : numpy.random.Generator
        Where the mask comes from.

    Returns
    -------
    Tensor, shape (...)
    """
    keep = rng.random(x.shape, dtype=np.float32) >= p
    return where(keep, x, 0.0) / (1 - p)


def cross_entropy(
    logits: Tensor, targets: NDArray[np.integer[Any]], *, ignore_index: int = -100, label_smoothing: float = 0.0
) -> Tensor:
    """Return the mean negative log-probability of the targets, in nats.

    Parameters
    ----------
    logits : Tensor, shape (..., V)
    targets : ndarray of int, shape (...)
    ignore_index : int, default -100
        A target that does not count.
    label_smoothing : float, default 0.0
        The share of the probability that is asked to be spread evenly over all classes.

    Returns
    -------
    Tensor, shape ()
    """
    counts = targets != ignore_index
    log_p = log_softmax(logits)[counts]  # (N, V)
    right = log_p[np.arange(len(log_p)), targets[counts]]  # (N,)
    return -((1 - label_smoothing) * right + label_smoothing * log_p.mean(axis=-1)).mean()


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Mask | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Return, for each query, the values weighted by the softmax of its scaled products with the keys.

    Parameters
    ----------
    q : Tensor, shape (B, H, T, D)
    k : Tensor, shape (B, K, S, D)
    v : Tensor, shape (B, K, S, E)
    mask : ndarray of bool, broadcasts to (B, H, T, S), optional
        True where a query may see a key.
    causal : bool, default False
        Whether a query sees keys up to its own position only, the last query being at the last key.
    scale : float, optional
        Multiplies the products of queries and keys, by default ``1 / sqrt(D)``.

    Returns
    -------
    Tensor, shape (B, H, T, E)
    """
    _, H, T, D = q.shape
    K, S = k.shape[1:3]
    shared = np.repeat(np.arange(K), H // K)  # the key head that serves each query head
    scale = 1 / math.sqrt(D) if scale is None else scale
    scores = q @ k[:, shared].swapaxes(-1, -2) * scale  # (B, H, T, S)
    if mask is not None:
        scores = where(mask, scores, -np.inf)
    if causal:
        scores = where(np.tri(T, S, S - T, dtype=np.bool_), scores, -np.inf)
    return softmax(scores) @ v[:, shared]


def packed_attention(
    qkv: Tensor,
    num_heads: int,
    num_kv_heads: int,
    *,
    mask: Mask | None = None,
    causal: bool = True,
    scale: float | None = None,
) -> Tensor:
    """Attend with queries, keys and values that lie in one array.

    Parameters
    ----------
    qkv : Tensor, shape (B, T, (H + 2 K) D)
        The heads of the queries, then of the keys, then of the values.
    num_heads, num_kv_heads : int
        H and K.
    mask : ndarray of bool, broadcasts to (B, H, T, S), optional
        True where a query may see a key.
    causal : bool, default True
        Whether a query sees keys up to its own position only.
    scale : float, optional
        Multiplies the products of queries and keys, by default ``1 / sqrt(D)``.

    Returns
    -------
    Tensor, shape (B, T, H D)
    """
    B, T, width = qkv.shape
    H, K = num_heads, num_kv_heads
    D = width // (H + 2 * K)
    heads = qkv.reshape(B, T, H + 2 * K, D).swapaxes(1, 2)  # (B, H + 2K, T, D)
    q, k, v = heads[:, :H], heads[:, H : H + K], heads[:, H + K :]
    out = scaled_dot_product_attention(q, k, v, mask=mask, causal=causal, scale=scale)
    return out.swapaxes(1, 2).reshape(B, T, H * D)


def mse_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean squared error, as `functional.mse_loss`.

    Parameters
    ----------
    predictions, targets : Tensor, shape (...)

    Returns
    -------
    Tensor, shape ()
    """
    return ((predictions - targets) ** 2).sum() / max(predictions.size, 1)


def apply_rotary(x: Tensor, cos: Array, sin: Array) -> Tensor:
    """Return `x` with each channel of the first half of a vector, and its partner in the second, rotated.

    Parameters
    ----------
    x : Tensor, shape (..., D)
    cos, sin : ndarray, broadcasts to (..., T, D / 2)

    Returns
    -------
    Tensor, shape (..., D)
    """
    half = x.shape[-1] // 2
    x1, x2 = x[..., :half], x[..., half:]
    return concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1)


def packed_rotary(qkv: Tensor, cos: Array, sin: Array, num_heads: int, num_kv_heads: int) -> Tensor:
    """Return packed queries, keys and values, the first two rotated by `apply_rotary`.

    Parameters
    ----------
    qkv : Tensor, shape (B, T, (H + 2 K) D)
        The heads of the queries, then of the keys, then of the values.
    cos, sin : ndarray, shape (T, D / 2) or (B, T, D / 2)
    num_heads, num_kv_heads : int
        H and K.

    Returns
    -------
    Tensor, shape (B, T, (H + 2 K) D)
    """
    B, T, width = qkv.shape
    rotated = num_heads + num_kv_heads
    heads = qkv.reshape(B, T, rotated + num_kv_heads, -1)  # (B, T, H + 2K, D)
    qk = apply_rotary(heads[:, :, :rotated], cos[..., None, :], sin[..., None, :])
    return concatenate([qk, heads[:, :, rotated:]], axis=2).reshape(B, T, width)


def packed_rms_norm(
    qkv: Tensor, q_weight: Tensor, k_weight: Tensor, num_heads: int, num_kv_heads: int, *, eps: float = 1e-6
) -> Tensor:
    """Return packed queries, keys and values, each head of the first two normalized by `rms_norm`.

    Parameters
    ----------
    qkv : Tensor, shape (B, T, (H + 2 K) D)
        The heads of the queries, then of the keys, then of the values.
    q_weight, k_weight : Tensor, shape (D,)
    num_heads, num_kv_heads : int
        H and K.
    eps : float, default 1e-6
        Added to the mean square.

    Returns
    -------
    Tensor, shape (B, T, (H + 2 K) D)
    """
    B, T, width = qkv.shape
    H, K = num_heads, num_kv_heads
    heads = qkv.reshape(B, T, H + 2 * K, -1)  # (B, T, H + 2K, D)
    q, k, v = heads[:, :, :H], heads[:, :, H : H + K], heads[:, :, H + K :]
    normalized = [rms_norm(q, q_weight, eps=eps), rms_norm(k, k_weight, eps=eps), v]
    return concatenate(normalized, axis=2).reshape(B, T, width)
