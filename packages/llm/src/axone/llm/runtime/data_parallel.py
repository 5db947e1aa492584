"""Data parallelism on one machine: each worker holds a replica of the model and computes its shard of every batch.

All replicas read the same weights, and each writes its gradients into a flat buffer of its own. After backward, an
all-reduce sums the buffers block by block and measures the norm in the same pass. NumPy releases the interpreter lock
while it computes, so workers may be threads: one BLAS thread per worker is faster than one worker with many BLAS threads,
because the operations between the products run in parallel too. Where steps are short, threads wait for the interpreter
lock: forked processes over shared memory then compute the same bits faster.

This module depends neither on the model nor on the loss: the caller passes a function from replica and batch to loss.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor, no_grad
from axone.autograd.extend import discard_grad
from axone.llm.runtime import resources
from axone.llm.runtime.processes import ProcessGroup, can_fork, shared_zeros
from axone.llm.runtime.settings import blas_threads, kept_memory
from axone.llm.runtime.threads import ThreadGroup
from axone.nn import Module, Parameter
from axone.nn.extend import CACHE_LINE, Arena, flatten, use_threads

M = TypeVar("M", bound=Module)
T = TypeVar("T")
R = TypeVar("R")

Flat: TypeAlias = NDArray[np.floating[Any]]

BLOCK = 1 << 18  # elements: with smaller blocks, threads compete for the interpreter lock


class FlatParameters:
    """The trained parameters of a module as views of one array: matrices first, then vectors such as biases and gains.

    Frozen parameters stay where they are: they take no memory here, and none in the gradients.

    Parameters
    ----------
    module : Module
        Its trained parameters are moved into the flat array. Loading a state later keeps them there.
    zeros : callable
        From a size and a dtype to an array, for parameters and gradients.

    Attributes
    ----------
    data : ndarray, shape (N,)
    matrices, vectors : Tensor
        The two parts, each as one long parameter for an elementwise optimizer.
    """

    def __init__(self, module: Module, zeros: Callable[[int, np.dtype[Any]], Flat] = np.zeros) -> None:
        self._zeros = zeros
        trained = [item for item in module.named_parameters() if item[1].requires_grad]
        named = sorted(trained, key=lambda item: item[1].ndim < 2)
        self._names = [name for name, _ in named]
        parameters = [parameter for _, parameter in named]
        self.data: Flat = flatten(parameters, align=1, allocate=zeros)  # no gaps: the optimizers save state of its size
        cut = sum(parameter.size for parameter in parameters if parameter.ndim >= 2)
        self.matrices = Tensor(self.data[:cut], requires_grad=True)
        self.vectors = Tensor(self.data[cut:], requires_grad=True)

    def bind_gradients(self, module: Module) -> Flat:
        """Return a new flat gradient whose parts are the gradients of a module: the same one or a replica."""
        own = dict(module.named_parameters())
        parameters = [own[name] for name in self._names]
        arena = Arena([parameter.shape for parameter in parameters], self.data.dtype, align=1, allocate=self._zeros)
        for parameter in parameters:
            parameter.grad = arena.take(parameter.shape)
        return arena.data

    def own_gradient(self, gradient: Flat) -> None:
        """Make a flat gradient that of the two long parameters."""
        cut = self.matrices.size
        self.matrices.grad, self.vectors.grad = gradient[:cut], gradient[cut:]


class DataParallel(Generic[M]):
    """Threads or forked processes with replicas of a module, as a context manager.

    Parameters
    ----------
    module : Module
        The first worker uses it itself, the others use replicas.
    num_replicas : int, optional
        Number of replicas; by default one per core.
    num_workers : int, optional
        Number of threads, by default one per replica. More are used inside operations: by BLAS in a small model, by
        intra-op parallelism in a large one.
    allow_fork : bool, default False
        Whether forked processes may replace threads where they are faster. All methods of this class must then be
        called by `collective` methods of the program that `start` is given.

    Attributes
    ----------
    flat : FlatParameters
        The trained parameters of the module, moved into one array by entering.
    replicas : list of Module

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(
        self, module: M, num_replicas: int | None = None, *, num_workers: int | None = None, allow_fork: bool = False
    ) -> None:
        self.num_replicas = resources.available_cores() if num_replicas is None else num_replicas
        self.num_workers = max(self.num_replicas, num_workers or 1)
        if self.num_replicas < 1:
            raise ValueError(f"num_replicas ({num_replicas}) must be at least 1")
        if self.num_workers > resources.MAX_WORKERS:
            raise ValueError(f"num_workers ({self.num_workers}) must be at most {resources.MAX_WORKERS}")
        self._module = module
        self._is_small = module.num_parameters() <= resources.SMALL_MODEL
        self._allow_fork = allow_fork and self._is_small and 1 < self.num_replicas == self.num_workers
        self._forking = False
        self._squares: list[float] = []  # per block, of the flat gradient

    def __enter__(self) -> Self:
        per_replica = self.num_workers // self.num_replicas
        intra_op = 1 if self._is_small else per_replica
        self._forking = self._allow_fork and can_fork()
        with contextlib.ExitStack() as stack:
            stack.enter_context(kept_memory())
            stack.enter_context(blas_threads(per_replica // intra_op))
            self._intra_op_groups = [
                stack.enter_context(ThreadGroup(intra_op)) for _ in range(self.num_replicas) if intra_op > 1
            ]
            self._group: ProcessGroup | ThreadGroup = (ProcessGroup if self._forking else ThreadGroup)(self.num_workers)
            stack.enter_context(self._group)
            self.flat = FlatParameters(self._module, shared_zeros if self._forking else np.zeros)
            self.replicas = [self._module, *(self._module.replica() for _ in range(self.num_replicas - 1))]
            self._gradients = [self.flat.bind_gradients(replica) for replica in self.replicas]
            self._parameters = [_trained(replica) for replica in self.replicas]
            self.flat.own_gradient(self._gradients[0])
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        parameters = _trained(self._module)
        for parameter in parameters:
            parameter.grad = None  # it is a view of the flat gradient, which would stay alive
        if self._forking or any(parameter.data.ctypes.data % CACHE_LINE for parameter in parameters):
            flatten(parameters)  # out of shared memory, which later forks would share too, and aligned without gaps

    def start(self, program: object) -> None:
        """Fork the processes, if any: call it when all data is loaded, and before a callback starts a thread.

        If the system refuses to fork, threads compute instead, with the same bits.

        Parameters
        ----------
        program : object
            Its `collective` methods run in all ranks. Each process has a copy of its attributes, except for the flat
            parameters and gradients, and for the arrays that `share_memory` returned.
        """
        try:
            self._group.start(program)
        except OSError:
            self._group = self._stack.enter_context(ThreadGroup(self.num_workers))

    def broadcast_call(self, program: object, method: str, *arguments: object) -> None:
        """Let the other ranks call a method, as `collective` does."""
        self.start(program)
        self._group.broadcast_call(program, method, *arguments)

    def share_memory(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array, or a copy in memory that all ranks share if these are processes."""
        if not self._forking:
            return array
        shared = shared_zeros(array.size, array.dtype).reshape(array.shape)
        shared[...] = array
        return shared

    def peak_memory(self) -> int | None:
        """Return the peak memory of all workers in bytes, shared memory counted once; None where it is not reported.

        Forked processes count with their present memory: they keep their arrays between steps.
        """
        own = resources.peak_memory()
        return None if own is None else own + self._group.private_memory()

    def compute_gradients(
        self,
        shards: Sequence[Iterable[tuple[T, float]]],
        prepare: Callable[[M, int, int], None],
        loss: Callable[[M, T], Tensor],
    ) -> float:
        """Compute the gradient of a weighted sum of losses into `flat`.

        Parameters
        ----------
        shards : sequence of iterable
            Per replica, its batches with their weights in the sum. At most one per replica; each batch is requested when the last one is done.
        prepare : callable
            Called before each loss with the replica, its index and the index of the batch.
        loss : callable
            From a replica and a batch to the loss of the batch.

        Returns
        -------
        float
            The weighted sum.
        """

        def work(index: int) -> float:
            replica = self.replicas[index]
            for parameter in self._parameters[index]:
                discard_grad(parameter)
            total = 0.0
            with self._intra_op(index):
                for turn, (batch, weight) in enumerate(shards[index]):
                    prepare(replica, index, turn)
                    output = loss(replica, batch)
                    output.backward(np.full(output.shape, weight))
                    total += output.item() * weight
            for parameter in self._parameters[index]:
                parameter.grad  # noqa: B018 - writes zeros where the loss does not depend on the parameter
            return total

        total = math.fsum(self._run(work, range(len(shards))))
        self._all_reduce(len(shards))
        return total

    def clip_gradients(self, max_norm: float | None) -> float:
        """Scale the gradient so that its norm is at most `max_norm`; return the norm before scaling."""
        gradient, norm = self._gradients[0], math.sqrt(math.fsum(self._squares))
        if max_norm is not None and norm > max_norm and math.isfinite(norm):
            scale = max_norm / norm
            self.parallel_for(lambda part: np.multiply(gradient[part], scale, out=gradient[part]), self._blocks())
            self._squares = [scale**2 * square for square in self._squares]
        return norm

    def sum_losses(
        self,
        batches: Iterable[T],
        loss: Callable[[M, T], tuple[float, int]],
        *,
        stop: Callable[[], bool] = lambda: False,
    ) -> tuple[float, int] | None:
        """Sum losses over batches, which are dealt to the replicas in turn, without recording.

        Parameters
        ----------
        batches : iterable
        loss : callable
            From a replica and a batch to the summed loss and the number of terms.
        stop : callable
            Called before each batch: True skips all further ones.

        Returns
        -------
        total : float
        terms : int
            None instead of both if `stop` returned True.
        """
        every = list(batches)

        def work(index: int) -> list[tuple[float, int]]:
            sums = []
            with no_grad(), self._intra_op(index):
                for batch in every[index :: self.num_replicas]:
                    if self._group.any(stop):
                        break
                    sums.append(loss(self.replicas[index], batch))
            return sums

        sums = [one for shard in self._run(work, range(min(self.num_replicas, len(every)))) for one in shard]
        if len(sums) < len(every):
            return None
        return math.fsum(total for total, _ in sums), sum(terms for _, terms in sums)

    def parallel_for(self, function: Callable[[T], object], items: Iterable[T]) -> None:
        """Call a function on each item, a chunk of items per worker; return when all calls have ended."""
        self._run(partial(_call, function), items)

    def _all_reduce(self, count: int) -> None:
        """Sum the gradients of the first replicas into the flat gradient, and measure its norm per block.

        Ranks on other machines would exchange the flat gradient here, before the norm.
        """
        self._squares = self._run(partial(_sum_block, self._gradients[:count]), self._blocks())

    def _intra_op(self, index: int) -> contextlib.AbstractContextManager[None]:
        """Let the operations of the calling thread use the threads of a replica."""
        if not self._intra_op_groups:
            return contextlib.nullcontext()
        group = self._intra_op_groups[index]
        return use_threads(group.run, group.world_size)

    def _run(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Return the value of a function for each item, a chunk of items per worker."""
        every = list(items)
        cuts = [len(every) * i // self.num_workers for i in range(self.num_workers + 1)]
        chunks = [every[start:stop] for start, stop in itertools.pairwise(cuts) if start < stop]
        gathered = self._group.run([partial(_each, function, chunk) for chunk in chunks]) if chunks else []
        return [value for values in gathered for value in values]

    def _blocks(self) -> list[slice]:
        size = self.flat.data.size
        count = max(math.ceil(size / BLOCK), min(self.num_workers, size))
        return [slice(size * i // count, size * (i + 1) // count) for i in range(count)]


def _trained(module: Module) -> list[Parameter]:
    """Return the parameters of a module that are not frozen."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _call(function: Callable[[T], object], item: T) -> None:
    function(item)


def _each(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    return [function(item) for item in items]


def _sum_block(gradients: Sequence[Flat], part: slice) -> float:
    """Sum a block of all gradients into the first one, and return the sum of its squares."""
    total = gradients[0][part]
    for other in gradients[1:]:
        total += other[part]
    return float(np.dot(total, total))
