"""KVCache: the keys and values of the positions read so far, in a buffer made once."""

import numpy as np
from numpy.typing import DTypeLike

from axone.autograd.extend import Array


class KVCache:
    """The keys and values that an attention layer has seen, so that a new position costs one row.

    Parameters
    ----------
    batch : int
        B.
    num_kv_heads : int
        K.
    max_length : int
        How many positions there is room for.
    head_dim : int
        D.
    dtype : dtype, default float32

    Attributes
    ----------
    length : int
        How many positions are held. Setting it back forgets the later ones.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor, no_grad
    >>> from axone.nn import KVCache, MultiHeadAttention
    >>> attention = MultiHeadAttention(8, 2)
    >>> x = Tensor(np.random.default_rng(0).standard_normal((1, 3, 8), dtype=np.float32))
    >>> cache = KVCache(1, 2, 16, 4)
    >>> with no_grad():
    ...     steps = [attention(x[:, [t]], cache=cache) for t in range(3)]
    >>> cache.length, bool(np.allclose(steps[2].data, attention(x)[:, [2]].data, atol=1e-6))
    (3, True)
    """

    def __init__(
        self, batch: int, num_kv_heads: int, max_length: int, head_dim: int, *, dtype: DTypeLike = np.float32
    ) -> None:
        self._keys: Array = np.empty((batch, num_kv_heads, max_length, head_dim), dtype)
        self._values: Array = np.empty((batch, num_kv_heads, max_length, head_dim), dtype)
        self.length = 0

    @property
    def max_length(self) -> int:
        """How many positions there is room for."""
        return int(self._keys.shape[2])

    def append(self, keys: Array, values: Array) -> tuple[Array, Array]:
        """Add positions and return all that are held: views, not copies.

        Parameters
        ----------
        keys, values : ndarray, shape (B, K, T, D)

        Returns
        -------
        keys, values : ndarray, shape (B, K, length, D)

        Raises
        ------
        ValueError
            If there is no room, or the shapes do not fit.
        """
        B, K, T, D = keys.shape
        room = self._keys.shape
        start, end = self.length, self.length + T
        if end > room[2]:
            raise ValueError(f"the cache has room for {room[2]} positions, and {end} are needed")
        if (room[0], room[1], room[3]) != (B, K, D):
            raise ValueError(f"the cache holds keys of shape {room}, and got {keys.shape}")
        self._keys[:, :, start:end] = keys
        self._values[:, :, start:end] = values
        self.length = end
        return self._keys[:, :, :end], self._values[:, :, :end]
