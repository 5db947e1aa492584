"""Linear: the affine layer ``y = x W^T + b``."""

import numpy as np

from axone.autograd import Tensor
from axone.nn import init
from axone.nn.functional import linear
from axone.nn.functional.linear import Dense, Forward, dense_product
from axone.nn.functional.validation import check_last_axis, check_sizes
from axone.nn.module import Module, Parameter


class Linear(Module):
    """Affine map ``y = x @ weight.T + bias`` of the last axis.

    Weights and bias start uniform in ``[-1 / sqrt(in_features), 1 / sqrt(in_features))``.

    Parameters
    ----------
    in_features, out_features : int
        The lengths of the last axis of the input and of the output.
    bias : bool, default True
        Whether a bias is added.
    rng : numpy.random.Generator, optional
        The generator of the initial values; by default a fresh one.

    Attributes
    ----------
    in_features, out_features : int
    weight : Parameter, shape (out_features, in_features)
    bias : Parameter, shape (out_features,), or None

    Raises
    ------
    TypeError, ValueError
        If a length is not a positive integer.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor
    >>> from axone.nn import Linear
    >>> layer = Linear(3, 2, rng=np.random.default_rng(0))
    >>> layer(Tensor(np.zeros((5, 3), np.float32))).shape
    (5, 2)
    """

    def __init__(
        self, in_features: int, out_features: int, *, bias: bool = True, rng: np.random.Generator | None = None
    ) -> None:
        check_sizes("Linear", in_features=in_features, out_features=out_features)
        rng = np.random.default_rng(rng)
        self.weight = Parameter(init.empty(out_features, in_features))
        self.bias = Parameter(init.empty(out_features)) if bias else None
        for parameter in self.parameters():
            init.uniform(parameter, bound=max(in_features, 1) ** -0.5, rng=rng)

    @property
    def in_features(self) -> int:
        """The length of the input's last axis."""
        return self.weight.shape[1]

    @property
    def out_features(self) -> int:
        """The length of the output's last axis."""
        return self.weight.shape[0]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the layer's output.

        Parameters
        ----------
        x : Tensor, shape (..., in_features)

        Returns
        -------
        Tensor, shape (..., out_features)

        Raises
        ------
        ValueError
            If the last axis of `x` is not `in_features` long.
        """
        check_last_axis(self._summary, x, self.in_features)
        return linear(x, self.weight, self.bias)

    def inference(self, dense: Dense = dense_product) -> Forward:
        """Return the layer's product on plain arrays, as `dense` computes it."""
        return dense(self.weight.data, None if self.bias is None else self.bias.data)

    def extra_repr(self) -> str:
        """Return the layer's sizes."""
        return f"{self.in_features}, {self.out_features}{'' if self.bias is not None else ', bias=False'}"
