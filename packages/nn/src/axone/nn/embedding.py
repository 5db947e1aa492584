"""Embedding: a table of vectors, one for each id."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.nn import init
from axone.nn.functional import embedding
from axone.nn.functional.validation import sizes
from axone.nn.module import Module, Parameter


class Embedding(Module):
    """A vector for each of `num_embeddings` ids, drawn at first from the normal distribution with deviation 1.

    Parameters
    ----------
    num_embeddings : int
        How many ids there are.
    embedding_dim : int
        C, the length of a vector.
    rng : numpy.random.Generator, optional
        Where the first values come from; None draws a fresh one.

    Attributes
    ----------
    weight : Parameter, shape (num_embeddings, embedding_dim)

    Raises
    ------
    TypeError, ValueError
        If a size is no whole number, or negative.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.nn import Embedding
    >>> Embedding(10, 4)(np.array([[1, 2, 1]])).shape
    (1, 3, 4)
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, *, rng: np.random.Generator | None = None) -> None:
        sizes("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.weight = Parameter(init.empty(num_embeddings, embedding_dim))
        init.normal(self.weight, std=1.0, rng=np.random.default_rng(rng))

    def __call__(self, ids: NDArray[np.integer[Any]]) -> Tensor:
        """Return the vectors of the ids.

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
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"
