"""Embedding: a table of vectors, one per id."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.nn import init
from axone.nn.functional import embedding
from axone.nn.functional.validation import check_sizes
from axone.nn.module import Module, Parameter


class Embedding(Module):
    """A learned vector for each id, initially drawn from the normal distribution of standard deviation 1.

    Parameters
    ----------
    num_embeddings : int
        The number of ids.
    embedding_dim : int
        C, the length of a vector.
    rng : numpy.random.Generator, optional
        The generator of the initial values; by default a fresh one.

    Attributes
    ----------
    num_embeddings, embedding_dim : int
    weight : Parameter, shape (num_embeddings, embedding_dim)

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.nn import Embedding
    >>> Embedding(10, 4)(np.array([[1, 2, 1]])).shape
    (1, 3, 4)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, *, rng: np.random.Generator | None = None) -> None:
        check_sizes("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.weight = Parameter(init.empty(num_embeddings, embedding_dim))
        init.normal(self.weight, std=1.0, rng=np.random.default_rng(rng))

    @property
    def num_embeddings(self) -> int:
        """The number of ids."""
        return self.weight.shape[0]

    @property
    def embedding_dim(self) -> int:
        """The length of a vector."""
        return self.weight.shape[1]

    def __call__(self, ids: NDArray[np.integer[Any]]) -> Tensor:
        """Return the vector of each id.

        Parameters
        ----------
        ids : ndarray of int, shape (...)

        Returns
        -------
        Tensor, shape (..., C)
        """
        return embedding(ids, self.weight)

    def extra_repr(self) -> str:
        """Return the layer's sizes."""
        return f"{self.num_embeddings}, {self.embedding_dim}"
