"""LoRALinear: a frozen linear layer with a trained low-rank adapter.

References
----------
.. [1] E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", https://arxiv.org/abs/2106.09685
.. [2] D. Kalajdzievski, "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA", https://arxiv.org/abs/2312.03732
"""

import math

import numpy as np

from axone.autograd import Tensor
from axone.autograd.extend import Array
from axone.nn import init
from axone.nn.dropout import Dropout
from axone.nn.functional.linear import Dense, Forward, dense_product
from axone.nn.functional.lora import lora_linear
from axone.nn.functional.validation import check_last_axis, check_sizes
from axone.nn.linear import Linear
from axone.nn.module import Parameter


class LoRALinear(Linear):
    """A linear layer whose weight is frozen, plus a trained product of two small matrices.

    It computes ``x W^T + b + s (d(x) A^T) B^T``: A and B have rank r, s is ``alpha / r``, and d is dropout. B starts at
    zero, so that the layer starts equal to the linear layer that it wraps. The layer shares that layer's `weight` and
    `bias`, and freezes them: they get no gradient.

    Parameters
    ----------
    linear : Linear
        The layer to adapt.
    rank : int
        r.
    alpha : float, optional
        The scale of the product is ``alpha / r``; by default alpha is r.
    dropout : float, default 0.0
        Probability of dropping an element of the product's input, in training.
    rslora : bool, default False
        Whether the scale is ``alpha / sqrt(r)`` instead, so that it keeps its effect for large ranks.
    rng : numpy.random.Generator, optional
        Draws the values of A and the dropout masks; None makes a new one.

    Attributes
    ----------
    weight, bias : Parameter
        Those of `linear`, frozen.
    lora_A : Parameter, shape (rank, in_features)
        Uniform up to ``1 / sqrt(in_features)`` in magnitude.
    lora_B : Parameter, shape (out_features, rank)
        Zero.
    rank : int
    alpha : float
    rslora : bool
    dropout : Dropout

    Raises
    ------
    TypeError, ValueError
        If `rank`, `alpha` or `dropout` is out of range, or the layer has an adapter already.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.autograd import Tensor
    >>> from axone.nn import Linear, LoRALinear
    >>> layer = LoRALinear(Linear(64, 32), rank=4, alpha=8)
    >>> [name for name, parameter in layer.named_parameters() if parameter.requires_grad]
    ['lora_A', 'lora_B']
    >>> layer.scale
    2.0
    >>> layer.lora_B.data[...] = 0.1
    >>> x = Tensor(np.ones((5, 64), np.float32))
    >>> bool(np.allclose(layer(x).data, layer.merge()(x).data, atol=1e-5))
    True
    """

    def __init__(
        self,
        linear: Linear,
        rank: int,
        *,
        alpha: float | None = None,
        dropout: float = 0.0,
        rslora: bool = False,
        rng: np.random.Generator | None = None,
    ) -> None:
        check_sizes("LoRALinear", rank=rank)
        if isinstance(linear, LoRALinear):
            raise ValueError(f"{linear._summary()} has an adapter already: merge it first")  # noqa: TRY004 - the type fits
        alpha = rank if alpha is None else alpha
        if not (math.isfinite(alpha) and alpha > 0):
            raise ValueError(f"alpha ({alpha}) of LoRALinear must be a positive number")
        rng = np.random.default_rng(rng)
        drop = Dropout(dropout, rng=rng.spawn(1)[0])  # refused before anything is frozen
        self.weight, self.bias = linear.weight, linear.bias
        self.weight.requires_grad = False
        if self.bias is not None:
            self.bias.requires_grad = False
        dtype = linear.weight.dtype
        self.lora_A = Parameter(init.empty(rank, linear.in_features, dtype=dtype))
        self.lora_B = Parameter(init.empty(linear.out_features, rank, dtype=dtype))
        init.uniform(self.lora_A, bound=linear.in_features**-0.5, rng=rng)
        init.constant(self.lora_B, 0)
        self.alpha = float(alpha)
        self.rslora = rslora
        self.dropout = drop

    @property
    def rank(self) -> int:
        """The rank of the adapter."""
        return self.lora_A.shape[0]

    @property
    def scale(self) -> float:
        """The factor of the low-rank product: ``alpha / rank``, or ``alpha / sqrt(rank)``."""
        return self.alpha / (math.sqrt(self.rank) if self.rslora else self.rank)

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
        dropout = self.dropout.p if self.training else 0.0
        return lora_linear(
            x,
            self.weight,
            self.lora_A,
            self.lora_B,
            self.bias,
            scale=self.scale,
            dropout=dropout,
            rng=self.dropout.rng,
        )

    def inference(self, dense: Dense = dense_product) -> Forward:
        """Return the layer's forward on plain arrays; `dense` computes the product with the frozen weight."""
        product = super().inference(dense)
        down, up = dense_product(self.lora_A.data), dense_product(self.lora_B.data)
        scale = np.asarray(self.scale, self.weight.dtype)

        def forward(x: Array) -> Array:
            h = down(x)
            h *= scale
            y = product(x)
            y += up(h)
            return y

        return forward

    def merge(self) -> Linear:
        """Return a linear layer with the weight ``W + s B A``, computed in the dtype of W; this layer stays as it is.

        Returns
        -------
        Linear
            Its parameters are trained again.
        """
        with init.skip():
            merged = Linear(self.in_features, self.out_features, bias=self.bias is not None)
        weight = self.lora_B.data @ self.lora_A.data  # (out, in)
        weight *= self.weight.dtype.type(self.scale)
        weight += self.weight.data
        merged.weight = Parameter(weight)
        merged.bias = None if self.bias is None else Parameter(self.bias.data.copy())
        return merged.train(self.training)

    def extra_repr(self) -> str:
        """Return the layer's sizes and rank."""
        return f"{super().extra_repr()}, rank={self.rank}, alpha={self.alpha:g}{', rslora=True' if self.rslora else ''}"
