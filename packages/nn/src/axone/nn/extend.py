"""Public interface for packages that build on axone.nn beyond its layers.

- **Types**: `Layer`, `Attention`, `AttentionMask`, `Mask`, `Positions`.
- **Inference on arrays**: `Module.inference` returns a `Forward`; a `Dense`, by default `dense_product`, says how a linear
  product is computed. A `CachedModule` also reads a cache: its `CachedForward` takes a `DecodeContext`, as does the
  `NgramForward` of n-gram embeddings.
- **Int8 weights**: `Int8Weight` is a `Weight` that a `Dense` multiplies in blocks of `int8_block_rows`.
- **Memory**: `flatten` moves the parameters of a module into one aligned `Arena`; `RowCache` is a KV cache for one
  short sequence.
- **Array kernels**, which record nothing: `attend` (attention), `exp_rows` and `softmax_rows`, `gelu_gate`,
  `swiglu_gate`, `matmul`, `ones`.
- **Modules**: `replace_modules` puts others, such as adapters, in place of some inside a module.
- **Parallelism**: a caller that has idle threads assigns them to an operation with `use_threads`. An operation of your own
  cuts its work into `chunks` and passes them to `parallel_for`.

Operations of your own are recorded with `axone.autograd.extend.record`.
"""

from axone.nn.arena import CACHE_LINE, Allocate, Arena, flatten
from axone.nn.cache import RowCache
from axone.nn.decoding import (
    Attention,
    CachedForward,
    CachedModule,
    DecodeContext,
    few_positions,
    single_position,
)
from axone.nn.functional.activation import gelu_gate, swiglu_gate
from axone.nn.functional.attention import Mask, attend
from axone.nn.functional.int8 import Int8Weight, int8_block_rows
from axone.nn.functional.intra_op import Run, chunks, is_single_threaded, parallel_for, use_threads
from axone.nn.functional.linear import Dense, Forward, Weight, dense_product
from axone.nn.functional.matmul import MatmulGradient, matmul, ones
from axone.nn.functional.prefix_attention import AttentionMask
from axone.nn.functional.softmax import exp_rows, softmax_rows
from axone.nn.module import Layer
from axone.nn.ngram import NgramForward
from axone.nn.position import Positions
from axone.nn.replacement import replace_modules

__all__ = [
    "CACHE_LINE",
    "Allocate",
    "Arena",
    "Attention",
    "AttentionMask",
    "CachedForward",
    "CachedModule",
    "DecodeContext",
    "Dense",
    "Forward",
    "Int8Weight",
    "Layer",
    "Mask",
    "MatmulGradient",
    "NgramForward",
    "Positions",
    "RowCache",
    "Run",
    "Weight",
    "attend",
    "chunks",
    "dense_product",
    "exp_rows",
    "few_positions",
    "flatten",
    "gelu_gate",
    "int8_block_rows",
    "is_single_threaded",
    "matmul",
    "ones",
    "parallel_for",
    "replace_modules",
    "single_position",
    "softmax_rows",
    "swiglu_gate",
    "use_threads",
]
