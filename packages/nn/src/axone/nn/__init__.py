"""Neural-network layers, attention and Transformers on NumPy that read like the papers."""

from axone.nn import functional, init
from axone.nn.attention import MultiHeadAttention
from axone.nn.cache import KVCache
from axone.nn.dropout import Dropout, reseed_dropout
from axone.nn.embedding import Embedding
from axone.nn.linear import Linear
from axone.nn.mlp import MLP
from axone.nn.module import Module, Parameter
from axone.nn.norm import LayerNorm
from axone.nn.sequential import Sequential
from axone.nn.transformer import Transformer, TransformerBlock

__all__ = [
    "MLP",
    "Dropout",
    "Embedding",
    "KVCache",
    "LayerNorm",
    "Linear",
    "Module",
    "MultiHeadAttention",
    "Parameter",
    "Sequential",
    "Transformer",
    "TransformerBlock",
    "functional",
    "init",
    "reseed_dropout",
]
