"""The mathematics of the layers as functions: fused kernels with their derivations."""

from axone.nn.functional.activation import gelu
from axone.nn.functional.attention import packed_attention
from axone.nn.functional.dropout import dropout
from axone.nn.functional.embedding import embedding
from axone.nn.functional.linear import linear
from axone.nn.functional.loss import cross_entropy
from axone.nn.functional.normalization import layer_norm

__all__ = ["cross_entropy", "dropout", "embedding", "gelu", "layer_norm", "linear", "packed_attention"]
