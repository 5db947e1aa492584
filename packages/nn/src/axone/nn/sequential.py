"""Sequential: layers one after the other."""

from axone.autograd import Tensor
from axone.nn.module import Module
from axone.nn.transformer import Layer


class Sequential(Module):
    """Apply layers, or any functions of a Tensor, one after the other.

    Parameters
    ----------
    *layers : callable
        Each from Tensor to Tensor.
    """

    def __init__(self, *layers: Layer) -> None:
        self.layers = list(layers)

    def __call__(self, x: Tensor) -> Tensor:
        """Return what the last layer returns.

        Parameters
        ----------
        x : Tensor
            The input of the first.

        Returns
        -------
        Tensor
        """
        for layer in self.layers:
            x = layer(x)
        return x
