"""Neural-network layers, attention and Transformers on NumPy that read like the papers."""

from typing import TYPE_CHECKING

from axone.nn import functional, init, scalar
from axone.nn.activation import GELU, ReLU, Sigmoid, SiLU, Tanh
from axone.nn.attention import MultiHeadAttention
from axone.nn.cache import KVCache
from axone.nn.dropout import Dropout, reseed_dropout
from axone.nn.embedding import Embedding
from axone.nn.feed_forward import FeedForward, SwiGLU
from axone.nn.functional.prefix_attention import SharedPrefix
from axone.nn.head import Head
from axone.nn.int8 import Int8Embedding, Int8Linear
from axone.nn.linear import Linear
from axone.nn.lora import LoRALinear
from axone.nn.mlp import MLP
from axone.nn.module import Module, Parameter
from axone.nn.ngram import NgramEmbedding
from axone.nn.norm import LayerNorm, RMSNorm
from axone.nn.position import Llama3Scaling, RotaryEmbedding
from axone.nn.sequential import Sequential
from axone.nn.transformer import Transformer, TransformerBlock

if not TYPE_CHECKING:  # for type checkers a misspelt name stays an error
    from axone.nn.pytorch import missing_layer as __getattr__  # noqa: F401 - called by the interpreter

__all__ = [
    "GELU",
    "MLP",
    "Dropout",
    "Embedding",
    "FeedForward",
    "Head",
    "Int8Embedding",
    "Int8Linear",
    "KVCache",
    "LayerNorm",
    "Linear",
    "Llama3Scaling",
    "LoRALinear",
    "Module",
    "MultiHeadAttention",
    "NgramEmbedding",
    "Parameter",
    "RMSNorm",
    "ReLU",
    "RotaryEmbedding",
    "Sequential",
    "SharedPrefix",
    "SiLU",
    "Sigmoid",
    "SwiGLU",
    "Tanh",
    "Transformer",
    "TransformerBlock",
    "functional",
    "init",
    "reseed_dropout",
    "scalar",
]
