"""The matrix products of a training step and nothing else: a lower bound for every NumPy implementation.

Attention is counted in full, including the part that the causal mask hides. Two threads take half of the batch each;
a batch of one uses BLAS's own two threads.
"""

import itertools
import os

from baton import Baton, options

O = options()
SHARES = min(O["workers"], O["batch"])
os.environ["OPENBLAS_NUM_THREADS"] = "1" if SHARES > 1 else str(O["workers"])
from concurrent.futures import ThreadPoolExecutor  # noqa: E402

import numpy as np  # noqa: E402

L, H, C, T, V = (O[k] for k in ("layers", "heads", "channels", "context", "vocab"))
D = C // H


class Share:
    """The products of one thread, each into an existing buffer."""

    def __init__(self, batch, rng):
        M = batch * T

        def new(*shape):
            return rng.standard_normal(shape, dtype=np.float32)

        self.products = []  # (left, right, out)
        stream, wide = new(M, C), new(M, 4 * C)
        qkv, scores = new(M, 3 * C), new(batch, H, T, T)
        self.buffers = {C: new(M, C), 3 * C: new(M, 3 * C), 4 * C: new(M, 4 * C)}
        q, k, v = qkv.reshape(batch, T, 3, H, D).transpose(2, 0, 3, 1, 4)
        o = np.empty((batch, T, H, D), np.float32).transpose(0, 2, 1, 3)
        p = np.empty_like(scores)
        flip = lambda a: a.swapaxes(-1, -2)  # noqa: E731
        for _ in range(L):
            for n, m in ((C, 3 * C), (C, C), (C, 4 * C), (4 * C, C)):
                self.linear({C: stream, 3 * C: qkv, 4 * C: wide}[n], {C: stream, 3 * C: qkv, 4 * C: wide}[m], new(m, n))
            self.products += [(q, flip(k), p), (scores, v, o)]
            self.products += [(flip(scores), q, o), (q, flip(k), p), (scores, k, o), (flip(scores), q, o)]
        self.buffers[V] = new(M, V)
        self.linear(stream, new(M, V), new(V, C))

    def linear(self, x, g, weight):
        """Add the three products of a linear layer."""
        self.products += [
            (x, weight.T, self.buffers[len(weight)]),
            (g, weight, self.buffers[weight.shape[1]]),
            (g.T, x, np.empty_like(weight)),
        ]

    def run(self):
        for left, right, out in self.products:
            np.matmul(left, right, out=out)


def main() -> None:
    cuts = [O["batch"] * i // SHARES for i in range(SHARES + 1)]
    shares = [Share(b - a, np.random.default_rng(a)) for a, b in itertools.pairwise(cuts)]
    baton = Baton()
    baton.versions(numpy=np.__version__)
    with ThreadPoolExecutor(SHARES) as pool:
        while True:
            list(pool.map(Share.run, shares))
            baton.lap()


main()
