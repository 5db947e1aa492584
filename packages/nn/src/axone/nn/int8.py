"""Layers with int8 weights, for inference: a quarter of the memory of float32."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.autograd.extend import Array, record
from axone.nn.functional.int8 import Int8Weight
from axone.nn.functional.linear import Dense, Forward, dense_product
from axone.nn.functional.validation import check_last_axis
from axone.nn.module import Module, Parameter


class Int8Linear(Module):
    """Affine map ``y = x @ weight.T + bias`` with int8 weights, without gradients.

    Parameters
    ----------
    weight : Int8Weight
        Of shape (out_features, in_features).
    bias : Parameter, optional
        Of shape (out_features,).

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor
    >>> from axone.nn import Int8Linear
    >>> from axone.nn.extend import Int8Weight
    >>> layer = Int8Linear(Int8Weight.quantized(np.eye(2, 3, dtype=np.float32)))
    >>> layer(Tensor(np.ones((1, 3), np.float32))).data.tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, weight: Int8Weight, bias: Parameter | None = None) -> None:
        self.weight = weight
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        """Return the layer's output.

        Parameters
        ----------
        x : Tensor, shape (..., in_features)

        Returns
        -------
        Tensor, shape (..., out_features)
        """
        check_last_axis(self._summary, x, self.weight.shape[1])
        y = self.inference()(x.data.reshape(-1, x.shape[-1]))
        return record("int8_linear", y.reshape(*x.shape[:-1], -1), (x,), _no_way_back)

    def inference(self, dense: Dense = dense_product) -> Forward:
        """Return the layer's product on plain arrays, as `dense` computes it."""
        return dense(self.weight, None if self.bias is None else self.bias.data)

    def extra_repr(self) -> str:
        """Return the layer's sizes."""
        rows, columns = self.weight.shape
        return f"{columns}, {rows}{'' if self.bias is not None else ', bias=False'}"


class Int8Embedding(Module):
    """A vector for each id, with int8 weights, without gradients.

    Parameters
    ----------
    weight : Int8Weight
        Of shape (num_embeddings, embedding_dim).
    """

    def __init__(self, weight: Int8Weight) -> None:
        self.weight = weight

    def __call__(self, ids: NDArray[np.integer[Any]]) -> Tensor:
        """Return the vector of each id.

        Parameters
        ----------
        ids : ndarray of int, shape (...)

        Returns
        -------
        Tensor, shape (..., C)
        """
        return Tensor(self.weight.take(ids))

    def extra_repr(self) -> str:
        """Return the layer's sizes."""
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"


def _no_way_back(_: Array) -> NoReturn:
    """Refuse a backward through int8 weights."""
    raise RuntimeError("int8 weights have no gradients: load the model with float32 weights to train it")
