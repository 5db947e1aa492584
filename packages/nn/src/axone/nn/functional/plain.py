"""Every fused operation again, as the formula that one would write: slower, and what the fused ones must agree with.

Nothing here knows a derivative: the engine finds them all.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor, concatenate, exp, log_softmax, tanh, where
from axone.autograd.extend import Array
from axone.nn.functional.attention import Mask


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As `axone.nn.functional.linear`."""
    y = x @ weight.T
    return y if bias is None else y + bias


def gelu(x: Tensor) -> Tensor:
    """As `axone.nn.functional.gelu`, in its tanh approximation."""
    return 0.5 * x * (1.0 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: Tensor) -> Tensor:
    """As `axone.nn.functional.silu`."""
    return x / (1.0 + exp(-x))


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """As `axone.nn.functional.swiglu`."""
    return silu(gate) * up


def relu2(x: Tensor) -> Tensor:
    """As `axone.nn.functional.relu2`."""
    return where(x > 0, x, 0.0) ** 2


def softmax(x: Tensor) -> Tensor:
    """As `axone.nn.functional.softmax`."""
    p = exp(x - np.maximum(x.data.max(axis=-1, keepdims=True), np.finfo(x.dtype).min))  # a shift changes nothing
    total = p.sum(axis=-1, keepdims=True)
    return p / where(total > 0, total, 1.0)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float = 1e-5) -> Tensor:
    """As `axone.nn.functional.layer_norm`."""
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = (centered * centered).mean(axis=-1, keepdims=True)
    y = centered / (variance + eps) ** 0.5 * weight
    return y if bias is None else y + bias


def rms_norm(x: Tensor, weight: Tensor, *, eps: float = 1e-6) -> Tensor:
    """As `axone.nn.functional.rms_norm`."""
    return x / ((x * x).mean(axis=-1, keepdims=True) + eps) ** 0.5 * weight


def embedding(ids: NDArray[np.integer[Any]], weight: Tensor) -> Tensor:
    """As `axone.nn.functional.embedding`."""
    return weight[ids]


def dropout(x: Tensor, p: float, *, rng: np.random.Generator) -> Tensor:
    """As `axone.nn.functional.dropout`."""
    keep = rng.random(x.shape, dtype=np.float32) >= p
    return where(keep, x, 0.0) / (1 - p)


def cross_entropy(
    logits: Tensor, targets: NDArray[np.integer[Any]], *, ignore_index: int = -100, label_smoothing: float = 0.0
) -> Tensor:
    """As `axone.nn.functional.cross_entropy`."""
    counts = targets != ignore_index
    log_p = log_softmax(logits)[counts]  # (N, V)
    right = log_p[np.arange(len(log_p)), targets[counts]]  # (N,)
    return -((1 - label_smoothing) * right + label_smoothing * log_p.mean(axis=-1)).mean()


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, *, mask: Mask | None = None, causal: bool = False
) -> Tensor:
    """As `axone.nn.functional.scaled_dot_product_attention`."""
    _, H, T, D = q.shape
    K, S = k.shape[1:3]
    shared = np.repeat(np.arange(K), H // K)  # the key head that serves each query head
    scores = q @ k[:, shared].swapaxes(-1, -2) / math.sqrt(D)  # (B, H, T, S)
    if mask is not None:
        scores = where(mask, scores, -np.inf)
    if causal:
        scores = where(np.tri(T, S, S - T, dtype=np.bool_), scores, -np.inf)
    return softmax(scores) @ v[:, shared]


def packed_attention(
    qkv: Tensor, num_heads: int, num_kv_heads: int, *, mask: Mask | None = None, causal: bool = True
) -> Tensor:
    """As `axone.nn.functional.packed_attention`."""
    B, T, width = qkv.shape
    H, K = num_heads, num_kv_heads
    D = width // (H + 2 * K)
    heads = qkv.reshape(B, T, H + 2 * K, D).swapaxes(1, 2)  # (B, H + 2K, T, D)
    q, k, v = heads[:, :H], heads[:, H : H + K], heads[:, H + K :]
    out = scaled_dot_product_attention(q, k, v, mask=mask, causal=causal)
    return out.swapaxes(1, 2).reshape(B, T, H * D)


def apply_rotary(x: Tensor, cos: Array, sin: Array) -> Tensor:
    """As `axone.nn.functional.apply_rotary`."""
    half = x.shape[-1] // 2
    x1, x2 = x[..., :half], x[..., half:]
    return concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1)


def packed_rotary(qkv: Tensor, cos: Array, sin: Array, num_heads: int, num_kv_heads: int) -> Tensor:
    """As `axone.nn.functional.packed_rotary`."""
    B, T, width = qkv.shape
    turned = num_heads + num_kv_heads
    heads = qkv.reshape(B, T, turned + num_kv_heads, -1)  # (B, T, H + 2K, D)
    qk = apply_rotary(heads[:, :, :turned], cos[..., None, :], sin[..., None, :])
    return concatenate([qk, heads[:, :, turned:]], axis=2).reshape(B, T, width)


def packed_rms_norm(
    qkv: Tensor, q_weight: Tensor, k_weight: Tensor, num_heads: int, num_kv_heads: int, *, eps: float = 1e-6
) -> Tensor:
    """As `axone.nn.functional.packed_rms_norm`."""
    B, T, width = qkv.shape
    H, K = num_heads, num_kv_heads
    heads = qkv.reshape(B, T, H + 2 * K, -1)  # (B, T, H + 2K, D)
    q, k, v = heads[:, :, :H], heads[:, :, H : H + K], heads[:, :, H + K :]
    normalized = [rms_norm(q, q_weight, eps=eps), rms_norm(k, k_weight, eps=eps), v]
    return concatenate(normalized, axis=2).reshape(B, T, width)
