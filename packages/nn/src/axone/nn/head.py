"""Head: one attention head as a teaching text, with plain operations in the order of the paper.

No model uses it: `MultiHeadAttention` computes many heads at once, through fused kernels.

References
----------
.. [1] A. Vaswani et al., "Attention Is All You Need", https://arxiv.org/abs/1706.03762
"""

import numpy as np

from axone.autograd import Tensor, where
from axone.nn.functional import softmax
from axone.nn.functional.validation import shape_error
from axone.nn.linear import Linear
from axone.nn.module import Module


class Head(Module):
    """One head of causal self-attention: each position gathers values from itself and earlier positions.

    The query of a position is compared with the key of every earlier position: the larger their product, the larger the
    weight of that position's value.

    Parameters
    ----------
    dim : int
        C, the width of the input.
    head_dim : int
        D, the width of queries, keys and values, and of the output.
    rng : numpy.random.Generator, optional
        The generator of the initial values; by default a fresh one.

    Attributes
    ----------
    query, key, value : Linear

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor
    >>> from axone.nn import Head
    >>> Head(8, 4)(Tensor(np.ones((1, 3, 8), np.float32))).shape
    (1, 3, 4)
    """

    def __init__(self, dim: int, head_dim: int, *, rng: np.random.Generator | None = None) -> None:
        rng = np.random.default_rng(rng)
        self.query = Linear(dim, head_dim, bias=False, rng=rng)
        self.key = Linear(dim, head_dim, bias=False, rng=rng)
        self.value = Linear(dim, head_dim, bias=False, rng=rng)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the weighted sum of values for each position.

        Parameters
        ----------
        x : Tensor, shape (B, T, C)

        Returns
        -------
        Tensor, shape (B, T, D)

        Raises
        ------
        ValueError
            If `x` does not have shape (B, T, C).
        """
        D, C = self.query.weight.shape
        if x.ndim != 3 or x.shape[2] != C:
            raise shape_error(self._summary(), f"(B, T, {C})", x.shape)
        T = x.shape[1]
        q, k, v = self.query(x), self.key(x), self.value(x)  # (B, T, D)
        scores = q @ k.swapaxes(1, 2) / D**0.5  # (B, T, T)
        scores = where(np.tri(T, dtype=np.bool_), scores, -np.inf)  # causal mask
        return softmax(scores) @ v  # (B, T, D)

    def extra_repr(self) -> str:
        """Return the layer's sizes."""
        head_dim, dim = self.query.weight.shape
        return f"{dim}, {head_dim}"
