"""Quantization: a model whose matrices are read from files straight into int8 weights."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.llm.pretrained.weights import MatchedWeights, in_threads
from axone.nn import Embedding, Int8Embedding, Int8Linear, Linear, Module
from axone.nn.extend import Arena, Int8Weight, Weight, flatten, replace_modules

WeightFormat: TypeAlias = Literal["float32", "int8"]


def check_format(weights: str) -> None:
    """Check the format of weights in memory.

    Raises
    ------
    ValueError
        If it is neither "float32" nor "int8".
    """
    if weights not in {"float32", "int8"}:
        raise ValueError(f"weights ({weights!r}) must be 'float32' or 'int8'")


def require_no_adapter(weights: WeightFormat) -> None:
    """Check that weights to which an adapter will be added are float32.

    Raises
    ------
    ValueError
        If they are int8.
    """
    if weights != "float32":
        raise ValueError(
            f"weights ({weights!r}) must be 'float32' for a model with an adapter: write the merged model with axone export, "
            "and open that"
        )


def load_int8(model: Module, embedding: Embedding, weights: MatchedWeights) -> None:
    """Replace the linear layers and the token embedding of a model by layers with int8 weights.

    A matrix is converted to float32 and quantized before the next one is read, so that no float32 copy of the model exists.

    Parameters
    ----------
    model : Module
        Built under `init.skip`.
    embedding : Embedding
        That of tokens, in the model.
    weights : MatchedWeights
    """
    replaced = dict(_replaced(model, embedding))
    arena = Arena([layer.weight.shape for layer in replaced.values()], np.int8)
    numbers: dict[str, NDArray[np.int8]] = {
        path: arena.take(layer.weight.shape).view(np.int8) for path, layer in replaced.items()
    }
    quantized: dict[str, Int8Weight] = {}

    def quantize(path: str) -> None:
        matrix = np.empty(numbers[path].shape, np.float32)
        weights.load_one(f"{path}.weight", matrix)
        quantized[path] = Int8Weight.quantized(matrix, numbers[path])

    in_threads(quantize, sorted(replaced, key=lambda path: -replaced[path].weight.size))
    layers: dict[str, Module] = {
        path: Int8Embedding(quantized[path])
        if isinstance(layer, Embedding)
        else Int8Linear(quantized[path], layer.bias)
        for path, layer in replaced.items()
    }
    replace_modules(model, layers)
    flatten(model.parameters(), dtype=np.float32)
    weights.without({f"{path}.weight" for path in replaced}).load(
        {name: parameter.data for name, parameter in model.named_parameters()}
    )


def _replaced(model: Module, embedding: Embedding) -> Iterator[tuple[str, Linear | Embedding]]:
    for path, layer in model.named_modules():
        if layer is embedding or type(layer) is Linear:
            yield path, layer


def int8_layers(model: Module) -> list[Int8Linear | Int8Embedding]:
    """Return the layers of a model that have int8 weights."""
    return [layer for layer in model.modules() if isinstance(layer, (Int8Linear, Int8Embedding))]


def num_bytes(model: Module) -> int:
    """Return the bytes of all parameters and int8 weights."""
    int8 = sum(layer.weight.nbytes for layer in int8_layers(model))
    return int8 + sum(parameter.data.nbytes for parameter in model.parameters())


def require_float32(model: Module) -> None:
    """Check that a model can be trained.

    Raises
    ------
    ValueError
        If it has int8 weights.
    """
    if int8_layers(model):
        raise ValueError("a model with int8 weights cannot be trained: load it with float32 weights")


def array_of(layer: Module) -> Weight:
    """Return the weight of a linear layer or an embedding."""
    if isinstance(layer, (Int8Linear, Int8Embedding)):
        return layer.weight
    if isinstance(layer, (Linear, Embedding)):
        return layer.weight.data
    raise TypeError(f"{type(layer).__name__} is neither a linear layer nor an embedding")
