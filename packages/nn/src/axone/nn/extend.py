"""Public interface for packages that build on axone.nn beyond its layers.

- **Types**: `Layer`, `Attention`, `Mask`, `Positions`.
- **Memory**: `flatten` moves the parameters of a module into one aligned `Arena`.
- **Array kernels**, which record nothing: `attend` (attention), `exp_rows` and `softmax_rows`, `matmul`, `ones`.
- **Parallelism**: a caller that runs one thread per core asks for `blocked_matmul`; one that has idle threads assigns
  them to an operation with `use_threads`. An operation of your own cuts its work into `chunks` and passes them to
  `parallel_for`.

Operations of your own are recorded with `axone.autograd.extend.record`.
"""

from axone.nn.arena import CACHE_LINE, Allocate, Arena, flatten
from axone.nn.functional.attention import Mask, attend
from axone.nn.functional.blocked_matmul import BlockedProduct, blocked_matmul, matmul, ones
from axone.nn.functional.intra_op import Run, chunks, is_single_threaded, parallel_for, use_threads
from axone.nn.functional.softmax import exp_rows, softmax_rows
from axone.nn.module import Layer
from axone.nn.position import Positions
from axone.nn.transformer import Attention

__all__ = [
    "CACHE_LINE",
    "Allocate",
    "Arena",
    "Attention",
    "BlockedProduct",
    "Layer",
    "Mask",
    "Positions",
    "Run",
    "attend",
    "blocked_matmul",
    "chunks",
    "exp_rows",
    "flatten",
    "is_single_threaded",
    "matmul",
    "ones",
    "parallel_for",
    "softmax_rows",
    "use_threads",
]
