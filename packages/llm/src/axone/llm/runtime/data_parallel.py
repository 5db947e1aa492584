"""Data parallelism on one machine: each worker holds a replica of the model and computes its shard of every batch.

All replicas read the same weights, and each writes its gradients into a flat buffer of its own. After backward, an
all-reduce sums the buffers block by block and measures the norm in the same pass. NumPy releases the interpreter lock
while it computes, so workers may be threads: one BLAS thread per worker is faster than one worker with many BLAS threads,
because the operations between the products run in parallel too. Where steps are short, threads wait for the interpreter
lock: forked processes over shared memory then compute the same bits faster.

A job of several ranks, on one machine or several, has these workers in each rank. Its ranks all-reduce the sum over their
workers through a communicator. Rank 0 leads: it broadcasts the name of each collective method, and the other ranks call it.

This module depends neither on the model nor on the loss: the caller passes a function from replica and batch to loss.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor, no_grad
from axone.autograd.extend import discard_grad
from axone.llm.runtime import resources
from axone.llm.runtime.communicator import Communicator, Flat, SingleProcess
from axone.llm.runtime.flat_parameters import FlatParameters
from axone.llm.runtime.processes import ProcessGroup, can_fork, shared_zeros
from axone.llm.runtime.rank_group import RankGroup
from axone.llm.runtime.settings import blas_threads, kept_memory
from axone.llm.runtime.threads import ThreadGroup
from axone.nn import Module, NgramEmbedding, Parameter
from axone.nn.extend import CACHE_LINE, flatten, use_threads

M = TypeVar("M", bound=Module)
T = TypeVar("T")
R = TypeVar("R")

BLOCK = 1 << 18  # elements: with smaller blocks, threads compete for the interpreter lock
_STOP_EVERY = 8  # batches per replica between the broadcasts of whether to stop an evaluation


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
    communicator : Communicator, optional
        Of the ranks of the job, which all have the same numbers of replicas and workers; by default this process alone.
    shards : {"elements", "matrices"}, optional
        Reduce-scatter instead of all-reduce: each rank has the gradient of its shard of the flat parameters alone, and
        updates that shard. Shards end anywhere, or at the ends of matrices.

    Attributes
    ----------
    flat : FlatParameters
        The trained parameters of the module, moved into one array by entering.
    replicas : list of Module
        The replicas of this rank.
    ranks : RankGroup
    communicator : Communicator
    first_replica, total_replicas : int
        Index of this rank's first replica among those of all ranks, and their number.
    bounds : list of int or None
        Bounds of the shards, once entered; None without shards.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    def __init__(
        self,
        module: M,
        num_replicas: int | None = None,
        *,
        num_workers: int | None = None,
        allow_fork: bool = False,
        communicator: Communicator | None = None,
        shards: Literal["elements", "matrices"] | None = None,
    ) -> None:
        self.num_replicas = resources.available_cores() if num_replicas is None else num_replicas
        self.num_workers = max(self.num_replicas, num_workers or 1)
        if self.num_replicas < 1:
            raise ValueError(f"num_replicas ({num_replicas}) must be at least 1")
        if self.num_workers > resources.MAX_WORKERS:
            raise ValueError(f"num_workers ({self.num_workers}) must be at most {resources.MAX_WORKERS}")
        self.ranks = RankGroup(SingleProcess() if communicator is None else communicator)
        self.communicator = self.ranks.communicator
        self.first_replica = self.communicator.rank * self.num_replicas
        self.total_replicas = self.communicator.world_size * self.num_replicas
        self._shards = shards if self.ranks.several else None
        self.bounds: list[int] | None = None
        self._module = module
        tables = [
            each for each in module.modules() if isinstance(each, NgramEmbedding)
        ]  # a step reads few of their rows
        size = module.num_parameters() - sum(each.num_parameters() for each in tables)
        self._is_small = size <= resources.SMALL_MODEL
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
            if self._shards is not None:
                count, whole = self.communicator.world_size, self._shards == "matrices"
                self.bounds = self.flat.shard_bounds(count, whole_matrices=whole)
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
        self.ranks.broadcast_call(method, *arguments)
        self.start(program)
        self._group.broadcast_call(program, method, *arguments)

    def share_memory(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the array, or a copy in memory that all ranks share if these are processes."""
        if not self._forking:
            return array
        shared = shared_zeros(array.size, array.dtype).reshape(array.shape)
        shared[...] = array
        return shared

    def call_failed(self, error: BaseException) -> None:
        """End the job unless all ranks raise this error."""
        self.ranks.call_failed(error)

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

        total = math.fsum(self.ranks.run(lambda: math.fsum(self._run(work, range(len(shards))))))
        self._all_reduce(len(shards))
        return total

    def clip_gradients(self, max_norm: float | None) -> float:
        """Scale the gradient so that its norm is at most `max_norm`; return the norm before scaling."""
        gradient, norm = self._gradients[0], math.sqrt(math.fsum(self._squares))
        if max_norm is not None and norm > max_norm and math.isfinite(norm):
            scale = max_norm / norm
            self.parallel_for(lambda part: np.multiply(gradient[part], scale, out=gradient[part]), self._own_blocks())
            self._squares = [scale**2 * square for square in self._squares]
        return norm

    def sum_losses(
        self,
        batches: Iterable[T],
        losses: Callable[[M, T], Sequence[float]],
        *,
        stop: Callable[[], bool] = lambda: False,
    ) -> list[float] | None:
        """Sum losses over batches, which are dealt to the replicas in turn, without recording.

        Parameters
        ----------
        batches : iterable
        losses : callable
            From a replica and a batch to numbers, as many for each batch.
        stop : callable
            Called before each batch: True skips all further ones.

        Returns
        -------
        list of float, or None
            The sum of each of the numbers; None if `stop` returned True.
        """
        every = list(batches)
        sums: list[Sequence[float]] = []
        at_once = _STOP_EVERY * self.total_replicas if self.ranks.several else max(len(every), 1)
        for first in range(0, len(every), at_once):
            if self.ranks.several and self.communicator.broadcast(stop()):
                break
            part = every[first : first + at_once]
            sums += [one for rank in self.ranks.run(partial(self._sum_losses, part, losses, stop)) for one in rank]
        if len(sums) < len(every):
            return None
        return [math.fsum(each) for each in zip(*sums)]

    def _sum_losses(
        self, batches: Sequence[T], losses: Callable[[M, T], Sequence[float]], stop: Callable[[], bool]
    ) -> list[Sequence[float]]:
        """Return the numbers of this rank's batches."""

        def work(index: int) -> list[Sequence[float]]:
            sums = []
            with no_grad(), self._intra_op(index):
                for batch in batches[self.first_replica + index :: self.total_replicas]:
                    if not self.ranks.several and self._group.any(stop):
                        break
                    sums.append(losses(self.replicas[index], batch))
            return sums

        return [one for shard in self._run(work, range(min(self.num_replicas, len(batches)))) for one in shard]

    def parallel_for(self, function: Callable[[T], object], items: Iterable[T]) -> None:
        """Call a function on each item, a chunk of items per worker; return when all calls have ended."""
        self._run(partial(_call, function), items)

    def compare_weights(self, step: int) -> None:
        """Compare the SHA-256 sums of all ranks' weights after a step.

        Raises
        ------
        RankError
            If one differs from that of rank 0.
        """
        self.ranks.compare(lambda: hashlib.sha256(self.flat.data.data).hexdigest(), f"weights after step {step}")

    @property
    def shard(self) -> slice | None:
        """The shard of this rank in the flat parameters; None without shards."""
        if self.bounds is None:
            return None
        return slice(*self.bounds[self.communicator.rank :][:2])

    def update(self, function: Callable[[], object]) -> None:
        """Call a function that updates the weights, or this rank's shard of them; gather the shards."""
        if self.bounds is None:
            function()
            return
        self.ranks.run(lambda: bool(function()))
        self.communicator.all_gather_shards(self.flat.data, self.bounds)

    def _all_reduce(self, count: int) -> None:
        """Sum the gradients of all ranks' first replicas into the flat gradient, and measure its norm per block."""
        if not self.ranks.several:
            self._squares = self._run(partial(_sum_block, self._gradients[:count]), self._blocks())
            return
        gradient = self._gradients[0]
        if count > 1:
            self.parallel_for(partial(_sum_block, self._gradients[:count]), self._blocks())
        if self.bounds is None:
            self.communicator.all_reduce(gradient)
            self._squares = self._run(partial(_sum_block, [gradient]), self._blocks())
        else:
            self.communicator.reduce_scatter(gradient, self.bounds)
            own = self._run(partial(_sum_block, [gradient]), self._own_blocks())
            self._squares = self.ranks.run(lambda: math.fsum(own))

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
        """Return the blocks of all parameters."""
        return blocks(0, self.flat.data.size, self.num_workers)

    def _own_blocks(self) -> list[slice]:
        """Return the blocks of the gradient that this rank has: of its shard, or of all parameters."""
        shard = self.shard
        return self._blocks() if shard is None else blocks(shard.start, shard.stop, self.num_workers)


def blocks(start: int, stop: int, least: int = 1) -> list[slice]:
    """Cut the elements from `start` to `stop` into blocks of a cache's size, at least `least` if they are enough."""
    size = stop - start
    count = max(math.ceil(size / BLOCK), min(least, size))
    return [slice(start + size * i // count, start + size * (i + 1) // count) for i in range(count)]


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
