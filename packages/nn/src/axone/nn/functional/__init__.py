"""The mathematics of the layers as functions: fused kernels with their derivations.

Beside each stands the plain composition of the same name in `plain`, which a test holds it to.
"""

from axone.nn.functional import plain
from axone.nn.functional.activation import gelu, relu2, silu, swiglu
from axone.nn.functional.attention import packed_attention, scaled_dot_product_attention
from axone.nn.functional.dropout import dropout
from axone.nn.functional.embedding import embedding
from axone.nn.functional.linear import linear
from axone.nn.functional.loss import cross_entropy
from axone.nn.functional.normalization import layer_norm, packed_rms_norm, rms_norm
from axone.nn.functional.rotary import apply_rotary, packed_rotary
from axone.nn.functional.softmax import softmax

__all__ = [
    "apply_rotary",
    "cross_entropy",
    "dropout",
    "embedding",
    "gelu",
    "layer_norm",
    "linear",
    "packed_attention",
    "packed_rms_norm",
    "packed_rotary",
    "plain",
    "relu2",
    "rms_norm",
    "scaled_dot_product_attention",
    "silu",
    "softmax",
    "swiglu",
]
