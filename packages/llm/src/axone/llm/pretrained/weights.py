"""Weights of a pretrained model: files matched against a model's parameters, then converted straight into them.

What a configuration asks for is compared with what the files declare before any memory is allocated. Tensors are
converted in parallel, each into its part of a parameter, so that no second copy of the model exists at any time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from axone.autograd.extend import Array
from axone.llm.config import LanguageModelConfig
from axone.llm.errors import CheckpointError
from axone.llm.pretrained.family import TensorSpec
from axone.llm.runtime.resources import available_cores
from axone.llm.runtime.threads import ThreadGroup
from axone.llm.storage.safetensors import Shape

Order: TypeAlias = NDArray[np.intp]
T = TypeVar("T")

_MOST_FAULTS = 20


class WeightSource(Protocol):
    """Named tensors of one or several files."""

    @property
    def path(self) -> Path:
        """The file or folder, for messages."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """The shape of every tensor by its name in the file."""

    def read(self, name: str, out: Array, order: Order | None = None) -> None:
        """Write a tensor into an array: row i of it is row ``order[i]`` of the tensor."""


@dataclass(frozen=True)
class MatchedWeights:
    """Tensors of a source, each with the part of a parameter that it holds.

    Attributes
    ----------
    source : WeightSource
    pairs : sequence of (TensorSpec, str)
        Specifications and the names in the file.
    """

    source: WeightSource
    pairs: Sequence[tuple[TensorSpec, str]]

    def load(self, parameters: Mapping[str, Array]) -> None:
        """Convert all tensors into the parameters.

        Parameters
        ----------
        parameters : mapping of str to ndarray
            The parameters' arrays by name.

        Raises
        ------
        CheckpointError
            If a file has changed since it was opened, or a tensor that the model lacks is not zero.
        """
        largest_first = sorted(self.pairs, key=lambda pair: -int(np.prod(pair[0].shape)))
        in_threads(lambda pair: self._convert(*pair, parameters), largest_first)

    def load_one(self, name: str, parameter: Array) -> None:
        """Convert the tensors of one parameter, without further threads.

        Parameters
        ----------
        name : str
        parameter : ndarray

        Raises
        ------
        CheckpointError
            As `load`.
        """
        for spec, file_name in self.pairs:
            if spec.name == name:
                self._convert(spec, file_name, {name: parameter})

    def without(self, names: Collection[str]) -> MatchedWeights:
        """Return the tensors of all parameters but some."""
        return MatchedWeights(self.source, [pair for pair in self.pairs if pair[0].name not in names])

    def _convert(self, spec: TensorSpec, name: str, parameters: Mapping[str, Array]) -> None:
        if spec.name is None:
            self._require_zero(spec, name)
            return
        target = parameters[spec.name]
        target = target if spec.rows is None else target[spec.rows]
        order = interleaved_order(spec) if spec.interleaved_heads else None
        self.source.read(name, target.T if spec.transposed else target, order)

    def _require_zero(self, spec: TensorSpec, name: str) -> None:
        values = np.empty(spec.shape, np.float32)
        self.source.read(name, values)
        if values.any():
            raise CheckpointError(self.source.path, f"{name} must be zero: config.json says that the model lacks it")


def in_threads(task: Callable[[T], object], items: Iterable[T]) -> None:
    """Call a function with each item, in one thread per core; each takes the next item when it has ended one."""
    queue = deque(items)

    def run() -> None:
        while True:
            try:
                item = queue.popleft()
            except IndexError:  # another thread took the last one
                return
            task(item)

    with ThreadGroup(available_cores()) as group:
        group.run([run] * group.world_size)


def require_sizes(path: Path, config: LanguageModelConfig, shapes: Mapping[str, Shape]) -> None:
    """Check that the files are large enough for a configuration, before a model of its sizes is built.

    Parameters
    ----------
    path : Path
        The file with the configuration, for messages.
    config : LanguageModelConfig
    shapes : mapping of str to tuple of int
        The shape of every tensor by its name in the file.

    Raises
    ------
    CheckpointError
        Naming the size.
    """
    if config.num_layers > len(shapes):
        raise CheckpointError(path, f"declares {config.num_layers} layers, and there are fewer tensors")
    largest = max(math.prod(shape) for shape in shapes.values())
    widths = {
        "an embedding": config.embed_dim,
        "all heads": config.num_heads * config.head_width,
        "a feed-forward layer": config.mlp_dim,
    }
    for name, width in widths.items():
        if width > largest:
            raise CheckpointError(path, f"declares {width} channels of {name}, and no tensor has so many elements")


def match(
    source: WeightSource,
    specs: Sequence[TensorSpec],
    canonical_name: Callable[[str], str],
    is_ignored: Callable[[str], bool],
) -> MatchedWeights:
    """Match the tensors of a source against those that a model needs.

    Parameters
    ----------
    source : WeightSource
    specs : sequence of TensorSpec
    canonical_name : callable
        From a name in the file to its canonical form.
    is_ignored : callable
        Whether a tensor of a canonical name may be left over.

    Raises
    ------
    CheckpointError
        Naming what is missing, left over, there twice or of another shape.
    """
    named = {canonical_name(name): name for name in source.shapes}
    faults = [f"{name} appears twice" for name in source.shapes if named[canonical_name(name)] != name]
    pairs: list[tuple[TensorSpec, str]] = []
    for spec in specs:
        name = named.pop(spec.file_name, None)
        if name is None:
            faults.append(f"{spec.file_name} is missing")
        elif source.shapes[name] != spec.shape:
            faults.append(f"{name} must have shape {spec.shape} and has {source.shapes[name]}")
        else:
            pairs.append((spec, name))
        if len(faults) > _MOST_FAULTS:
            break
    else:
        faults += [f"{name} is not expected" for canonical, name in named.items() if not is_ignored(canonical)]
    if faults:
        more = ["and so on"] if len(faults) > _MOST_FAULTS else []
        raise CheckpointError(source.path, "; ".join(faults[:_MOST_FAULTS] + more))
    return MatchedWeights(source, pairs)


def interleaved_order(spec: TensorSpec) -> Order:
    """Return, for each row here, its row in a file whose rotated channels lie side by side.

    Channel i of a head is rotated with channel ``i + D / 2`` here, and with its neighbour there.
    """
    heads = spec.interleaved_heads
    half = spec.shape[0] // heads // 2
    return np.arange(spec.shape[0]).reshape(heads, half, 2).swapaxes(1, 2).reshape(-1)


def tensors_of(specs: Sequence[TensorSpec], state: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the tensors of a weight file by name, views of the parameters where possible.

    Parameters
    ----------
    specs : sequence of TensorSpec
    state : mapping of str to ndarray
        The parameters' arrays by name.
    """
    dtype = next(iter(state.values())).dtype
    return {spec.file_name: _tensor(spec, state, dtype) for spec in specs}


def _tensor(spec: TensorSpec, state: Mapping[str, NDArray[Any]], dtype: np.dtype[Any]) -> NDArray[Any]:
    if spec.name is None:
        return np.zeros(spec.shape, dtype)
    array = state[spec.name] if spec.rows is None else state[spec.name][spec.rows]
    if spec.interleaved_heads:
        back = np.empty_like(array)
        back[interleaved_order(spec)] = array
        return back
    return array.T if spec.transposed else array


def require_merged(state: Iterable[str]) -> None:
    """Refuse the parameters of a model with an adapter, for which the formats have no names.

    Raises
    ------
    ValueError
        If there are some.
    """
    if any(name.endswith(".lora_A") for name in state):
        raise ValueError("the model has an adapter: merge it with Adapter.merge, or save it alone with Adapter.save")
