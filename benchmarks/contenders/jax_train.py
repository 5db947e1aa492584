"""A training step in JAX: one jitted function whose buffers are donated."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from baton import BETAS, CLIP, EPS, LEARNING_RATE, WEIGHT_DECAY, Baton, options


def initial(o, rng):
    C, V, T, L = o["channels"], o["vocab"], o["context"], o["layers"]

    def normal(*shape, std=0.02):
        return (rng.standard_normal(shape) * std).astype(np.float32)

    def affine(n, m, std=0.02):
        return {"w": normal(n, m, std=std), **({"b": np.zeros(m, np.float32)} if o["bias"] else {})}

    def norm():
        return {"g": np.ones(C, np.float32), **({"b": np.zeros(C, np.float32)} if o["bias"] else {})}

    residual = 0.02 / math.sqrt(2 * L)
    block = lambda: {  # noqa: E731
        "norm_1": norm(),
        "qkv": affine(C, 3 * C),
        "out": affine(C, C, residual),
        "norm_2": norm(),
        "up": affine(C, 4 * C),
        "down": affine(4 * C, C, residual),
    }
    return {
        "tokens": normal(V, C),
        "positions": normal(T, C),
        "blocks": [block() for _ in range(L)],
        "norm": norm(),
    }


def affine(x, p):
    y = x @ p["w"]
    return y + p["b"] if "b" in p else y


def layer_norm(x, p):
    mean = x.mean(-1, keepdims=True)
    y = (x - mean) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * p["g"]
    return y + p["b"] if "b" in p else y


def attention(x, block, heads):
    B, T, C = x.shape
    q, k, v = jnp.split(affine(x, block["qkv"]), 3, axis=-1)
    q, k, v = (part.reshape(B, T, heads, C // heads) for part in (q, k, v))
    y = jax.nn.dot_product_attention(q, k, v, is_causal=True)
    return affine(y.reshape(B, T, C), block["out"])


def loss_of(p, x, y, heads):
    h = p["tokens"][x] + p["positions"]
    for block in p["blocks"]:
        h = h + attention(layer_norm(h, block["norm_1"]), block, heads)
        h = h + affine(jax.nn.gelu(affine(layer_norm(h, block["norm_2"]), block["up"])), block["down"])
    log_p = jax.nn.log_softmax(layer_norm(h, p["norm"]) @ p["tokens"].T)
    return -jnp.take_along_axis(log_p, y[..., None], axis=-1).mean()


@partial(jax.jit, static_argnames="heads", donate_argnums=(0, 1, 2))
def step(p, m, v, t, lr, x, y, heads):
    loss, g = jax.value_and_grad(loss_of)(p, x, y, heads)
    norm = jnp.sqrt(sum(jnp.vdot(part, part) for part in jax.tree.leaves(g)))
    g = jax.tree.map(lambda part: part * jnp.minimum(1.0, CLIP / (norm + 1e-6)), g)
    b1, b2 = BETAS
    m = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, m, g)
    v = jax.tree.map(lambda v, g: b2 * v + (1 - b2) * g * g, v, g)

    def update(p, m, v):
        change = (m / (1 - b1**t)) / (jnp.sqrt(v / (1 - b2**t)) + EPS)
        return p * (1 - lr * (WEIGHT_DECAY if p.ndim >= 2 else 0.0)) - lr * change

    return jax.tree.map(update, p, m, v), m, v, loss


def main() -> None:
    o = options()
    rng = np.random.default_rng(0)
    data = rng.integers(0, o["vocab"], 1_000_000).astype(np.uint16)
    p = jax.tree.map(jnp.asarray, initial(o, rng))
    m, v = (jax.tree.map(jnp.zeros_like, p) for _ in range(2))
    baton, t = Baton(), 0
    baton.versions(jax=jax.__version__)
    while True:
        starts = rng.integers(0, len(data) - o["context"], o["batch"])
        both = data[starts[:, None] + np.arange(o["context"] + 1)].astype(np.int32)
        t += 1
        p, m, v, loss = step(p, m, v, np.float32(t), LEARNING_RATE, both[:, :-1], both[:, 1:], heads=o["heads"])
        loss.block_until_ready()
        baton.lap()


main()
