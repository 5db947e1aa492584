"""Sequential: a chain of layers."""

from axone.autograd import Tensor
from axone.nn.module import Layer, Module


class Sequential(Module):
    """Chain of layers, or of any functions of a Tensor.

    Parameters
    ----------
    *layers : callable
        Each from Tensor to Tensor.

    Attributes
    ----------
    layers : list of callable

    Raises
    ------
    TypeError
        If a layer cannot be called.

    Examples
    --------
    >>> from axone.autograd import Tensor, relu
    >>> from axone.nn import Linear, Sequential
    >>> net = Sequential(Linear(2, 16), relu, Linear(16, 1))
    >>> net(Tensor([[0.5, -1.0]])).shape
    (1, 1)
    """

    def __init__(self, *layers: Layer) -> None:
        for layer in layers:
            if not callable(layer):
                raise TypeError(f"a layer must be callable, got {type(layer).__name__}: write Sequential(*layers)")
        self.layers = list(layers)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the output of the last layer.

        Parameters
        ----------
        x : Tensor
            The input of the first layer.

        Returns
        -------
        Tensor
        """
        for layer in self.layers:
            x = layer(x)
        return x
