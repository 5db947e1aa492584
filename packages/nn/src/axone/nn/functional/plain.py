"""Each fused operation as a composition of elementary ones: slower, and the reference that the fused ones are tested against.

Arguments and results are those of the operation of the same name in `axone.nn.functional`; nothing is checked. No derivative
is written here: the engine differentiates the compositions.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor, concatenate, exp, log_softmax, tanh, where
from axone.autograd.extend import Array
from axone.nn.functional.attention import Mask
from axone.nn.functional.prefix_attention import SharedPrefix


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias``."""
    y = x @ weight.T
    return y if bias is None else y + bias


def lora_linear(
    x: Tensor,
    weight: Tensor,
    lora_A: Tensor,
    lora_B: Tensor,
    bias: Tensor | None = None,
    *,
    scale: float = 1.0,
    dropout: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Tensor:
    """Linear map plus the scaled product of two small matrices."""
    dropped = x if rng is None else where(rng.random(x.shape, dtype=np.float32) >= dropout, x, 0.0) / (1 - dropout)
    return linear(x, weight, bias) + scale * (dropped @ lora_A.T @ lora_B.T)


def gelu(x: Tensor) -> Tensor:
    """GELU in its tanh approximation."""
    return 0.5 * x * (1.0 + tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x: Tensor) -> Tensor:
    """SiLU: x times its logistic function."""
    return x / (1.0 + exp(-x))


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """``silu(gate) * up``."""
    return silu(gate) * up


def relu2(x: Tensor) -> Tensor:
    """Square of the positive part."""
    return where(x > 0, x, 0.0) ** 2


def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Softmax over an axis; a row of minus infinity gives zeros."""
    p = exp(
        x - np.maximum(x.data.max(axis=axis, keepdims=True), np.finfo(x.dtype).min)
    )  # softmax is invariant to a shift
    total = p.sum(axis=axis, keepdims=True)
    return p / where(total > 0, total, 1.0)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, eps: float = 1e-5) -> Tensor:
    """Layer normalization of the last axis."""
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = (centered * centered).mean(axis=-1, keepdims=True)
    y = centered / (variance + eps) ** 0.5 * weight
    return y if bias is None else y + bias


def rms_norm(x: Tensor, weight: Tensor, *, eps: float = 1e-6) -> Tensor:
    """RMS normalization of the last axis."""
    return x / ((x * x).mean(axis=-1, keepdims=True) + eps) ** 0.5 * weight


def embedding(ids: NDArray[np.integer[Any]], weight: Tensor) -> Tensor:
    """Rows of `weight` by id."""
    return weight[ids]


def dropout(x: Tensor, p: float, *, rng: np.random.Generator) -> Tensor:
    """Dropout with the mask of the fused operation for the same generator."""
    keep = rng.random(x.shape, dtype=np.float32) >= p
    return where(keep, x, 0.0) / (1 - p)


def cross_entropy(
    logits: Tensor, targets: NDArray[np.integer[Any]], *, ignore_index: int = -100, label_smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy in nats."""
    counts = targets != ignore_index
    log_p = log_softmax(logits)[counts]  # (N, V)
    right = log_p[np.arange(len(log_p)), targets[counts]]  # (N,)
    return -((1 - label_smoothing) * right + label_smoothing * log_p.mean(axis=-1)).mean()


def linear_cross_entropy(
    x: Tensor, weight: Tensor, targets: NDArray[np.integer[Any]], *, rows: int | None = None
) -> Tensor:
    """Cross-entropy of all logits at once; the result does not depend on `rows`."""
    del rows
    return cross_entropy(linear(x, weight), targets)


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask: Mask | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Attention with the whole matrix of scores."""
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
    """Attention with queries, keys and values packed in one array."""
    B, T, width = qkv.shape
    H, K = num_heads, num_kv_heads
    D = width // (H + 2 * K)
    heads = qkv.reshape(B, T, H + 2 * K, D).swapaxes(1, 2)  # (B, H + 2K, T, D)
    q, k, v = heads[:, :H], heads[:, H : H + K], heads[:, H + K :]
    out = scaled_dot_product_attention(q, k, v, mask=mask, causal=causal, scale=scale)
    return out.swapaxes(1, 2).reshape(B, T, H * D)


def prefix_attention(
    qkv: Tensor, num_heads: int, num_kv_heads: int, prefix: SharedPrefix, *, scale: float | None = None
) -> Tensor:
    """Attention of sequences laid out as one, with a mask that keeps their own positions apart."""
    N, P, B = qkv.shape[1], prefix.length, prefix.rows
    row = np.concatenate([np.full(P, -1), np.repeat(np.arange(B), (N - P) // B)])  # (N,)
    seen = (row == -1) | (row[:, None] == row)  # (N, N)
    if prefix.mask is None:
        mask = seen
    else:
        mask = np.broadcast_to(seen, (prefix.mask.shape[1], N, N)).copy()  # (H or 1, N, N)
        for one, own in enumerate(prefix.mask):
            place = np.flatnonzero(row == one)
            mask[:, place[:, None], place] &= own
        mask = mask[None]
    return packed_attention(qkv, num_heads, num_kv_heads, mask=mask, scale=scale)


def mse_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error."""
    return ((predictions - targets) ** 2).sum() / max(predictions.size, 1)


def apply_rotary(x: Tensor, cos: Array, sin: Array) -> Tensor:
    """Rotary position embedding of the last axis."""
    half = x.shape[-1] // 2
    x1, x2 = x[..., :half], x[..., half:]
    return concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1)


def packed_rotary(qkv: Tensor, cos: Array, sin: Array, num_heads: int, num_kv_heads: int) -> Tensor:
    """`apply_rotary` of packed queries and keys."""
    B, T, width = qkv.shape
    rotated = num_heads + num_kv_heads
    heads = qkv.reshape(B, T, rotated + num_kv_heads, width // (rotated + num_kv_heads))  # (B, T, H + 2K, D)
    qk = apply_rotary(heads[:, :, :rotated], cos[..., None, :], sin[..., None, :])
    return concatenate([qk, heads[:, :, rotated:]], axis=2).reshape(B, T, width)


def packed_rms_norm(
    qkv: Tensor, q_weight: Tensor, k_weight: Tensor, num_heads: int, num_kv_heads: int, *, eps: float = 1e-6
) -> Tensor:
    """`rms_norm` of each head of packed queries and keys."""
    B, T, width = qkv.shape
    H, K = num_heads, num_kv_heads
    heads = qkv.reshape(B, T, H + 2 * K, width // (H + 2 * K))  # (B, T, H + 2K, D)
    q, k, v = heads[:, :, :H], heads[:, :, H : H + K], heads[:, :, H + K :]
    normalized = [rms_norm(q, q_weight, eps=eps), rms_norm(k, k_weight, eps=eps), v]
    return concatenate(normalized, axis=2).reshape(B, T, width)


def packed_rms_norm_rotary(
    qkv: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos: Array,
    sin: Array,
    num_heads: int,
    num_kv_heads: int,
    *,
    eps: float = 1e-6,
) -> Tensor:
    """`packed_rotary` after `packed_rms_norm`."""
    normalized = packed_rms_norm(qkv, q_weight, k_weight, num_heads, num_kv_heads, eps=eps)
    return packed_rotary(normalized, cos, sin, num_heads, num_kv_heads)
