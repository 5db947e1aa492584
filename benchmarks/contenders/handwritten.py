"""Training step written by hand in NumPy, without a tape: the reference for the overhead of the engine.

Forward, backward, clipping and AdamW of nanoGPT's model (no bias, tied output layer, tanh GELU). Each thread takes a
part of the batch, with one BLAS thread and a gradient buffer of its own.
"""

import ctypes
import math
import os
import sys

os.environ["OPENBLAS_NUM_THREADS"] = "1"
if sys.platform.startswith("linux"):  # keep large temporaries instead of returning each to the system
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
    libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from baton import BETAS, CLIP, EPS, LEARNING_RATE, WEIGHT_DECAY, Baton, options

O = options()
W, L, H, C, T, B, V = (O[k] for k in ("workers", "layers", "heads", "channels", "context", "batch", "vocab"))
D = C // H
F = np.float32
BLOCK = 32768  # elements per update

SHAPES = {"tokens": (V, C), "positions": (T, C), "norm": (C,)}
for i in range(L):
    SHAPES |= {f"{i}.norm_1": (C,), f"{i}.qkv": (C, 3 * C), f"{i}.out": (C, C)}
    SHAPES |= {f"{i}.norm_2": (C,), f"{i}.up": (C, 4 * C), f"{i}.down": (4 * C, C)}
ENDS = np.cumsum([math.prod(shape) for shape in SHAPES.values()])
N = int(ENDS[-1])


def views(flat):
    parts = zip(SHAPES.items(), ENDS)
    return {name: flat[end - math.prod(shape) : end].reshape(shape) for (name, shape), end in parts}


rng = np.random.default_rng(0)
flat = np.empty(N, F)
P = views(flat)
for name, part in P.items():
    part[...] = 1.0 if "norm" in name else rng.standard_normal(part.shape).astype(F) * F(0.02)
flat_gradients = [np.zeros(N, F) for _ in range(W)]
gradients = [views(g) for g in flat_gradients]
m, v, scratch_1, scratch_2 = (np.zeros(N, F) for _ in range(4))
mask = np.triu(np.full((T, T), -1e10, F), 1)
ones = np.ones(C, F)
SCALE, CUBIC = F(math.sqrt(2 / math.pi)), F(0.044715)


def norm_forward(x, gain):
    mean = x @ ones
    mean *= F(1 / C)
    xhat = x - mean[:, None]
    rstd = np.einsum("ij,ij->i", xhat, xhat)
    rstd *= F(1 / C)
    rstd += F(1e-5)
    np.sqrt(rstd, out=rstd)
    np.reciprocal(rstd, out=rstd)
    xhat *= rstd[:, None]
    return xhat * gain, (xhat, rstd)


def norm_backward(g, saved, gain, into):
    xhat, rstd = saved
    t = g * xhat
    into += np.add.reduce(t, 0)
    dx = g * gain
    mean = dx @ ones
    mean *= F(1 / C)
    tilt = np.einsum("ij,ij->i", dx, xhat)
    tilt *= F(1 / C)
    np.multiply(xhat, tilt[:, None], out=t)
    dx -= t
    dx -= mean[:, None]
    dx *= rstd[:, None]
    return dx


def gelu_forward(x):
    t = x * x
    t *= x
    t *= CUBIC
    t += x
    t *= SCALE
    np.tanh(t, out=t)
    y = t + F(1)
    y *= x
    y *= F(0.5)
    return y, t


def gelu_backward(g, x, t):
    d = x * x
    d *= F(3 * CUBIC) * SCALE
    d += SCALE
    d *= x
    s = t * t
    np.subtract(F(1), s, out=s)
    d *= s
    d += t
    d += F(1)
    d *= F(0.5)
    d *= g
    return d


def work(w, x, y):
    """Write the gradient of a part of the batch into the buffer of worker `w`; return the summed loss."""
    G = gradients[w]
    flat_gradients[w].fill(0)
    b = x.shape[0]
    M = b * T
    h = P["tokens"][x.ravel()].reshape(b, T, C)
    h += P["positions"]
    h = h.reshape(M, C)
    saved = []
    for i in range(L):
        a, norm_1 = norm_forward(h, P[f"{i}.norm_1"])
        qkv = a @ P[f"{i}.qkv"]
        q, k, values = qkv.reshape(b, T, 3, H, D).transpose(2, 0, 3, 1, 4)
        p = q @ k.swapaxes(-1, -2)
        p *= F(1 / math.sqrt(D))
        p += mask
        p -= p.max(-1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(-1, keepdims=True)
        o = np.empty((b, T, H, D), F)
        np.matmul(p, values, out=o.transpose(0, 2, 1, 3))
        o = o.reshape(M, C)
        h = h + o @ P[f"{i}.out"]
        a_2, norm_2 = norm_forward(h, P[f"{i}.norm_2"])
        u = a_2 @ P[f"{i}.up"]
        z, t = gelu_forward(u)
        h = h + z @ P[f"{i}.down"]
        saved.append((a, norm_1, q, k, values, p, o, a_2, norm_2, u, z, t))
    last, norm = norm_forward(h, P["norm"])
    logits = last @ P["tokens"].T
    logits -= logits.max(-1, keepdims=True)
    rows, targets = np.arange(M), y.ravel()
    picked = logits[rows, targets].copy()
    np.exp(logits, out=logits)
    total = logits.sum(-1)
    loss = (np.log(total) - picked).sum()
    logits /= total[:, None]
    logits[rows, targets] -= 1
    logits *= F(1 / (B * T))
    G["tokens"] += logits.T @ last
    dh = norm_backward(logits @ P["tokens"], norm, P["norm"], G["norm"])
    for i in reversed(range(L)):
        a, norm_1, q, k, values, p, o, a_2, norm_2, u, z, t = saved.pop()
        np.matmul(z.T, dh, out=G[f"{i}.down"])
        du = gelu_backward(dh @ P[f"{i}.down"].T, u, t)
        np.matmul(a_2.T, du, out=G[f"{i}.up"])
        dh = dh + norm_backward(du @ P[f"{i}.up"].T, norm_2, P[f"{i}.norm_2"], G[f"{i}.norm_2"])
        np.matmul(o.T, dh, out=G[f"{i}.out"])
        do = (dh @ P[f"{i}.out"].T).reshape(b, T, H, D).transpose(0, 2, 1, 3)
        dqkv = np.empty((b, T, 3, H, D), F)
        dq, dk, dv = dqkv.transpose(2, 0, 3, 1, 4)
        np.matmul(p.swapaxes(-1, -2), do, out=dv)
        dp = do @ values.swapaxes(-1, -2)
        dp *= p
        p *= dp.sum(-1, keepdims=True)
        dp -= p
        dp *= F(1 / math.sqrt(D))
        np.matmul(dp, k, out=dq)
        np.matmul(dp.swapaxes(-1, -2), q, out=dk)
        dqkv = dqkv.reshape(M, 3 * C)
        np.matmul(a.T, dqkv, out=G[f"{i}.qkv"])
        dh = dh + norm_backward(dqkv @ P[f"{i}.qkv"].T, norm_1, P[f"{i}.norm_1"], G[f"{i}.norm_1"])
    G["positions"][...] = dh.reshape(b, T, C).sum(0)
    one_hot = np.zeros((M, V), F)
    one_hot[rows, x.ravel()] = 1
    G["tokens"] += one_hot.T @ dh
    return loss


def update(start, stop, clip, t):
    """Apply AdamW to a part of the flat parameters, block after block."""
    b1, b2 = BETAS
    for a in range(start, stop, BLOCK):
        part = slice(a, min(stop, a + BLOCK))
        p, g, m_, v_, s, s_2 = flat[part], flat_gradients[0][part], m[part], v[part], scratch_1[part], scratch_2[part]
        g *= clip
        m_ *= F(b1)
        np.multiply(g, F(1 - b1), out=s)
        m_ += s
        v_ *= F(b2)
        np.multiply(g, g, out=s)
        s *= F(1 - b2)
        v_ += s
        np.sqrt(v_, out=s)
        s *= F(1 / math.sqrt(1 - b2**t))
        s += F(EPS)
        np.divide(m_, s, out=s_2)
        s_2 *= F(LEARNING_RATE / (1 - b1**t))
        p *= F(1 - LEARNING_RATE * WEIGHT_DECAY)
        p -= s_2


def main() -> None:
    data = rng.integers(0, V, 1_000_000)
    baton, t = Baton(), 0
    baton.versions(numpy=np.__version__)
    with ThreadPoolExecutor(W) as pool:
        while True:
            t += 1
            starts = rng.integers(0, len(data) - T - 1, B)
            x = np.stack([data[i : i + T] for i in starts])
            y = np.stack([data[i + 1 : i + 1 + T] for i in starts])
            cuts = [B * w // W for w in range(W + 1)]
            sum(pool.map(lambda w: work(w, x[cuts[w] : cuts[w + 1]], y[cuts[w] : cuts[w + 1]]), range(W)))
            for w in range(1, W):
                flat_gradients[0] += flat_gradients[w]
            norm = math.sqrt(np.dot(flat_gradients[0], flat_gradients[0]))
            clip = F(min(1.0, CLIP / (norm + 1e-6)))
            list(pool.map(lambda w: update(N * w // W, N * (w + 1) // W, clip, t), range(W)))
            baton.lap()


main()
