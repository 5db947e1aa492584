"""The mathematics of the layers as functions: fused kernels with their derivatives.

`plain` has each as a composition of elementary operations, under the same name; tests compare the two.
"""

from typing import TYPE_CHECKING

from axone.autograd import relu
from axone.nn.functional import plain
from axone.nn.functional.activation import gelu, relu2, silu, swiglu
from axone.nn.functional.attention import packed_attention, scaled_dot_product_attention
from axone.nn.functional.dropout import dropout
from axone.nn.functional.embedding import embedding
from axone.nn.functional.linear import linear
from axone.nn.functional.lora import lora_linear
from axone.nn.functional.loss import cross_entropy, linear_cross_entropy, mse_loss
from axone.nn.functional.normalization import layer_norm, rms_norm
from axone.nn.functional.packed_heads import packed_rms_norm, packed_rms_norm_rotary, packed_rotary
from axone.nn.functional.prefix_attention import prefix_attention
from axone.nn.functional.rotary import apply_rotary
from axone.nn.functional.softmax import softmax

if not TYPE_CHECKING:  # for type checkers a misspelt name stays an error
    from axone.nn.pytorch import missing_function as __getattr__  # noqa: F401 - called by the interpreter

__all__ = [
    "apply_rotary",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "layer_norm",
    "linear",
    "linear_cross_entropy",
    "lora_linear",
    "mse_loss",
    "packed_attention",
    "packed_rms_norm",
    "packed_rms_norm_rotary",
    "packed_rotary",
    "plain",
    "prefix_attention",
    "relu",
    "relu2",
    "rms_norm",
    "scaled_dot_product_attention",
    "silu",
    "softmax",
    "swiglu",
]
