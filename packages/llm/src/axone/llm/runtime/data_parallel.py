"""Data-parallel workers: threads or processes that each hold a replica of the model and take a share of every batch.

All replicas read the same weights; each writes its gradients into one flat buffer of its own. After backward the
buffers are added up in blocks that the workers share out, and the norm is measured in the same pass. NumPy releases the
interpreter lock while it computes, so the threads run side by side: one matrix-product thread each beats two threads
in each product, because all the small work around the products then runs on all cores too. Where a step is short,
threads wait for that lock a good part of it: forked processes over shared memory then do the same, with the same bits.

The workers know neither the model nor the loss: they are given a function from a replica and a batch to a loss.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor, no_grad
from axone.llm.runtime.processes import ProcessGroup, can_fork, shared_zeros
from axone.llm.runtime.resources import available_cores, peak_memory
from axone.llm.runtime.settings import blas_threads, kept_memory
from axone.llm.runtime.threads import ThreadGroup
from axone.nn import Module
from axone.nn.extend import CACHE_LINE, Arena, blocked_matmul, flatten, use_threads

M = TypeVar("M", bound=Module)
T = TypeVar("T")
R = TypeVar("R")

Flat: TypeAlias = NDArray[np.floating[Any]]
BLOCK = 1 << 18  # elements: smaller blocks make the threads fight over the interpreter lock
# Parameters: smaller models feel that lock, and what it takes to wake a thread for a part of an operation; larger ones
# the large pages that shared memory lacks.
SMALL = 1 << 22


class FlatParameters:
    """All parameters of a module as views of one array: the matrices first, then vectors such as biases and gains.

    Parameters
    ----------
    module : Module
        Its parameters' arrays are moved into the flat one; loading a state into them later keeps them there.
    zeros : callable
        From a size and a dtype to an array, for parameters and gradients.

    Attributes
    ----------
    data : ndarray, shape (N,)
    matrices, vectors : Tensor
        The two parts, each as one long parameter: what an elementwise optimizer updates.
    """

    def __init__(self, module: Module, zeros: Callable[[int, np.dtype[Any]], Flat] = np.zeros) -> None:
        self._zeros = zeros
        named = sorted(module.named_parameters(), key=lambda item: item[1].ndim < 2)
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
    """Threads or processes with replicas of a module, as a context manager.

    Parameters
    ----------
    module : Module
        The first worker uses it itself, the others replicas.
    num_workers : int, optional
        How many; by default one for each core.
    num_threads : int, optional
        How many threads there are in all, by default as many as workers: those beyond help the workers with large
        operations, inside each product if the model is small, and with whatever is done in blocks.
    allow_fork : bool, default False
        Whether forked processes may replace threads where that is faster. All methods of this class must then be
        called by `collective` methods.

    Attributes
    ----------
    flat : FlatParameters
        The module's parameters, moved into one array on entering.
    replicas : list of Module
    """

    def __init__(
        self, module: M, num_workers: int | None = None, *, num_threads: int | None = None, allow_fork: bool = False
    ) -> None:
        self.num_workers = available_cores() if num_workers is None else num_workers
        if self.num_workers < 1:
            raise ValueError(f"there must be at least one worker, and {self.num_workers} were asked for")
        self._num_threads = self.num_workers if num_threads is None else max(num_threads, self.num_workers)
        self._forking = allow_fork and 1 < self.num_workers == self._num_threads and module.num_parameters() <= SMALL
        self._module = module

    def __enter__(self) -> DataParallel[M]:
        each = self._num_threads // self.num_workers
        lent = each if self._module.num_parameters() > SMALL else 1  # else they help inside each product
        self._forking = self._forking and can_fork()
        self.group: ThreadGroup | ProcessGroup = (ProcessGroup if self._forking else ThreadGroup)(self._num_threads)
        with contextlib.ExitStack() as settings:
            settings.enter_context(kept_memory())
            settings.enter_context(blas_threads(each // lent))
            if self._num_threads == self.num_workers:
                settings.enter_context(blocked_matmul())
            self._lent = [settings.enter_context(ThreadGroup(lent)) for _ in range(self.num_workers) if lent > 1]
            settings.enter_context(self.group)
            self.flat = FlatParameters(self._module, shared_zeros if self._forking else np.zeros)
            self.replicas = [self._module, *(self._module.replica() for _ in range(self.num_workers - 1))]
            self._gradients = [self.flat.bind_gradients(replica) for replica in self.replicas]
            self._parameters = [list(replica.parameters()) for replica in self.replicas]
            self.flat.own_gradient(self._gradients[0])
            self._settings = settings.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._settings.close()
        parameters = list(self._module.parameters())
        for parameter in parameters:
            parameter.grad = None
        if self._forking or any(parameter.data.ctypes.data % CACHE_LINE for parameter in parameters):
            flatten(parameters)  # out of shared memory, which later forks would share too, and aligned without gaps

    def start(self, program: object) -> None:
        """Start processes where there are any: before callers start threads of their own, such as a progress bar's.

        Parameters
        ----------
        program : object
            Whose methods are collective. Each process has a copy of what it holds; only the flat parameters and
            gradients, and the arrays that `share_memory` returned, stay one.
        """
        self.group.start(program)

    def share_memory(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array, or one like it that all processes share; threads share every array."""
        if not self._forking:
            return array
        shared = shared_zeros(array.size, array.dtype).reshape(array.shape)
        shared[...] = array
        return shared

    def peak_memory(self) -> int | None:
        """Return the most memory that all workers have held, in bytes, where the platform tells; shared memory counts once.

        What forked processes hold counts as it is now: they let go of none between steps.
        """
        own = peak_memory()
        return None if own is None else own + self.group.private_memory()

    def compute_gradients(
        self,
        shares: Sequence[Iterable[T]],
        prepare: Callable[[M, int, int], None],
        loss: Callable[[M, T], Tensor],
        weights: Sequence[float],
    ) -> float:
        """Compute the gradient of a weighted sum of losses, one share for each worker.

        The gradient is left in `flat`, replacing the one before.

        Parameters
        ----------
        shares : sequence of iterable
            For each worker at most, the batches that it takes one after the other, and asks for only then.
        prepare : callable
            Called before each loss, with the replica, the worker's number and the batch's number.
        loss : callable
            From a replica and a batch to the batch's loss.
        weights : sequence of float
            One for each share.

        Returns
        -------
        float
            The weighted sum.
        """

        def work(worker: int) -> float:
            replica, weight = self.replicas[worker], weights[worker]
            for parameter in self._parameters[worker]:
                parameter.discard_grad()
            total = 0.0
            with self._helped(worker):
                for turn, batch in enumerate(shares[worker]):
                    prepare(replica, worker, turn)
                    output = loss(replica, batch)
                    output.backward(np.full(output.shape, weight))
                    total += output.item() * weight
            for parameter in self._parameters[worker]:
                parameter.grad  # noqa: B018 - writes the zeros where no gradient came
            return total

        total = math.fsum(self._run(work, range(len(shares))))
        self._squares = self._run(partial(_add_up, self._gradients[: len(shares)]), self._blocks())
        return total

    def clip_gradients(self, max_norm: float | None) -> float:
        """Scale the gradient that was computed last so that its norm is at most `max_norm`; return the norm before."""
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
        """Return the sum of losses over batches, without recording; each worker takes every `count`-th batch.

        Parameters
        ----------
        batches : iterable
        loss : callable
            From a replica and a batch to the summed loss and the number of terms.
        stop : callable
            Asked before each batch; when it says so, the rest is left.

        Returns
        -------
        total : float
        terms : int
            Or None if it was stopped.
        """
        every = list(batches)

        def work(worker: int) -> list[tuple[float, int]]:
            parts = []
            with no_grad(), self._helped(worker):
                for batch in every[worker :: self.num_workers]:
                    if self.group.any(stop):
                        break
                    parts.append(loss(self.replicas[worker], batch))
            return parts

        parts = [part for share in self._run(work, range(min(self.num_workers, len(every)))) for part in share]
        if len(parts) < len(every):
            return None
        return math.fsum(total for total, _ in parts), sum(terms for _, terms in parts)

    def parallel_for(self, function: Callable[[T], object], items: Iterable[T]) -> None:
        """Call a function on each item, the items shared out in runs; return when all calls have ended."""
        self._run(partial(_call, function), items)

    def _helped(self, worker: int) -> contextlib.AbstractContextManager[None]:
        """Lend a worker, which is the calling thread, the threads that help with its operations."""
        if not self._lent:
            return contextlib.nullcontext()
        group = self._lent[worker]
        return use_threads(group.run, group.world_size)

    def _run(self, function: Callable[[T], R], items: Iterable[T]) -> list[R]:
        every = list(items)
        cuts = [len(every) * i // self._num_threads for i in range(self._num_threads + 1)]
        runs = [every[start:stop] for start, stop in itertools.pairwise(cuts) if start < stop]
        done = self.group.run([partial(_each, function, run) for run in runs]) if runs else []
        return [result for results in done for result in results]

    def _blocks(self) -> list[slice]:
        size = self.flat.data.size
        count = max(math.ceil(size / BLOCK), min(self._num_threads, size))
        return [slice(size * i // count, size * (i + 1) // count) for i in range(count)]


def _call(function: Callable[[T], object], item: T) -> None:
    function(item)


def _each(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    return [function(item) for item in items]


def _add_up(gradients: Sequence[Flat], part: slice) -> float:
    """Add a block of every gradient to the first one's, and return the sum of its squares."""
    total = gradients[0][part]
    for other in gradients[1:]:
        total += other[part]
    return float(np.dot(total, total))
