"""Adapter: low-rank matrices beside the linear layers of a frozen model, added, trained, saved, loaded and merged.

References
----------
.. [1] E. J. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", https://arxiv.org/abs/2106.09685
.. [2] J. Schulman et al., "LoRA Without Regret", https://thinkingmachines.ai/blog/lora
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from axone.llm.adapters import peft
from axone.llm.adapters.peft import AdapterOptions, LowRank
from axone.llm.adapters.targets import ALL, linear_layers, select
from axone.llm.errors import CheckpointError
from axone.llm.model import LanguageModel
from axone.llm.quantization import require_float32
from axone.llm.storage.atomic import write_json
from axone.llm.storage.json_schema import Format, from_json, numbered
from axone.llm.storage.regular import read_json
from axone.llm.storage.safetensors import write_arrays
from axone.nn import Linear, LoRALinear, Module
from axone.nn.extend import replace_modules

BASE = "base.json"
BASE_FORMAT = Format((numbered,))


@dataclass(frozen=True)
class BaseModel:
    """Identity of the model that an adapter belongs to.

    Attributes
    ----------
    name : str or None
        Its name or path.
    sha256 : str
        The sum of its weights, as `weights_sha256` computes it.
    """

    name: str | None
    sha256: str


class Adapter:
    """A low-rank adapter of a model, whose own weights are frozen. `add` and `load` make one.

    Parameters
    ----------
    model : LanguageModel
        A model with adapted layers.
    options : AdapterOptions

    Attributes
    ----------
    options : AdapterOptions
        Rank, alpha, dropout, the kind of scale, and the base's name.
    layers : dict of str to LoRALinear
        The adapted layers of the model by path.

    Examples
    --------
    >>> from axone.llm import Adapter, LanguageModel, LanguageModelConfig
    >>> config = LanguageModelConfig.llama(
    ...     vocab_size=32,
    ...     context_length=16,
    ...     num_layers=1,
    ...     num_heads=2,
    ...     num_kv_heads=1,
    ...     embed_dim=8,
    ...     hidden_dim=16,
    ... )
    >>> model = LanguageModel(config)
    >>> adapter = Adapter.add(model, rank=2, alpha=4)
    >>> adapter.num_parameters, model.num_parameters()
    (224, 1080)
    >>> model = adapter.merge(model)
    >>> model.num_parameters()
    856
    """

    def __init__(self, model: LanguageModel, options: AdapterOptions) -> None:
        self.options = options
        self.layers = {path: layer for path, layer in model.named_modules() if isinstance(layer, LoRALinear)}
        self._model = model
        self._sha256: str | None = None

    @classmethod
    def add(
        cls,
        model: LanguageModel,
        rank: int = 16,
        alpha: float = 32,
        targets: str | Sequence[str] = ALL,
        *,
        dropout: float = 0.0,
        rslora: bool = False,
        base_name: str | None = None,
        rng: np.random.Generator | None = None,
    ) -> Adapter:
        """Freeze a model, and add a new adapter to its linear layers. The model computes what it did until it is trained.

        Parameters
        ----------
        model : LanguageModel
        rank : int, default 16
            The rank of the two matrices of each layer: the number of directions in which the layer can change.
        alpha : float, default 32
            The product of the two matrices is multiplied by ``alpha / rank``.
        targets : str or sequence of str, default "all-linear"
            The layers to adapt: all of those in the blocks, or the last parts of their names, ours (``qkv_proj``) or those
            of the model's family (``q_proj``).
        dropout : float, default 0.0
            Probability of dropping an element of an adapter's input in training.
        rslora : bool, default False
            Whether the factor is ``alpha / sqrt(rank)``.
        base_name : str, optional
            The name or path of the model, for ``adapter_config.json``.
        rng : numpy.random.Generator, optional
            Draws the initial values; None makes a new one.

        Returns
        -------
        Adapter

        Raises
        ------
        ValueError
            If an option is out of range, the targets match nothing, a part of a fused layer or the output layer, or the
            model has an adapter already, or int8 weights.
        """
        require_float32(model)
        layers = linear_layers(model)
        if any(isinstance(layer, LoRALinear) for layer in layers.values()):
            raise ValueError("the model has an adapter already: merge it first")
        chosen = select(model, layers, targets)
        rng = np.random.default_rng(rng)
        adapted = {
            path: LoRALinear(layers[path], rank, alpha=alpha, dropout=dropout, rslora=rslora, rng=rng)
            for path in chosen
        }
        _attach(model, adapted)
        return cls(model, AdapterOptions(rank, float(alpha), dropout, rslora, base_name))

    @classmethod
    def load(cls, model: LanguageModel, folder: str | os.PathLike[str], *, any_base: bool = False) -> Adapter:
        """Add the adapter of a folder, which `save` or PEFT wrote, to the model that it belongs to.

        Parameters
        ----------
        model : LanguageModel
        folder : path
        any_base : bool, default False
            Whether the weights of the model may differ from those that the adapter was trained on, such as another
            quantization of them. Their shapes must be the same in any case.

        Returns
        -------
        Adapter

        Raises
        ------
        CheckpointError
            If the folder holds no adapter, a damaged one, or one of another base.
        ValueError
            If the model has an adapter already, or int8 weights.
        """
        require_float32(model)
        folder = Path(folder)
        layers = linear_layers(model)
        if any(isinstance(layer, LoRALinear) for layer in layers.values()):
            raise ValueError("the model has an adapter already: merge it first")
        if not (folder / peft.CONFIG).exists():
            raise CheckpointError(folder, f"is not an adapter: it holds no {peft.CONFIG}")
        options = peft.read_options(folder)
        shapes = {path: (layer.out_features, layer.in_features) for path, layer in layers.items()}
        found = peft.read_layers(folder, options, model.config, shapes)
        base = read_base(folder)
        sha256 = None
        if base is not None and not any_base:
            sha256 = weights_sha256(model)
            if sha256 != base.sha256:
                named = "another model" if base.name is None else base.name
                raise CheckpointError(
                    folder,
                    f"belongs to another base ({named}), whose weights differ from this model's: name that base, or accept "
                    "this one with --any-base (any_base=True)",
                )
        adapted = {path: _restored(layers[path], low, options) for path, low in found.items()}
        _attach(model, adapted)
        adapter = cls(model, options)
        adapter._sha256 = sha256
        return adapter

    @property
    def num_parameters(self) -> int:
        """The number of elements of all matrices of the adapter: what is trained."""
        return sum(layer.lora_A.size + layer.lora_B.size for layer in self.layers.values())

    @property
    def base(self) -> BaseModel:
        """The identity of the base model; its sum is computed once."""
        if self._sha256 is None:
            self._sha256 = weights_sha256(self._model)
        return BaseModel(self.options.base_name, self._sha256)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the adapter in PEFT's format, and ``base.json``, which names the base and the sum of its weights.

        Parameters
        ----------
        folder : path
            Made if it is not there; files of these names in it are replaced.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        if not self.layers:
            raise ValueError("the adapter was merged into its model and has no layers: save it before the merge")
        folder = Path(folder)
        config = self._model.config
        layers = [
            (peft.parts_of(config, path, (layer.out_features, layer.in_features)), _low_rank(layer))
            for path, layer in self.layers.items()
        ]
        tensors, rank = peft.to_tensors(layers, self.options.rank)
        written = replace(self.options, rank=rank, alpha=self.options.scale * self.options.divisor(rank))
        content = peft.to_config_json(
            written if rank != self.options.rank else self.options,
            peft.module_names(tensors),
            transposed=peft.is_transposed(config),
        )
        folder.mkdir(parents=True, exist_ok=True)
        write_arrays(folder / peft.WEIGHTS, tensors)
        write_json(folder / peft.CONFIG, content)
        write_json(folder / BASE, BASE_FORMAT.stamp(asdict(self.base)))

    def load_weights(self, folder: str | os.PathLike[str]) -> None:
        """Read the matrices that `save` wrote for this adapter, such as those of its best checkpoint, in place.

        Raises
        ------
        CheckpointError
            If the folder holds another adapter, or a damaged one.
        """
        folder = Path(folder)
        shapes = {path: (layer.out_features, layer.in_features) for path, layer in self.layers.items()}
        found = peft.read_layers(folder, peft.read_options(folder), self._model.config, shapes)
        if any(path not in found or found[path].a.shape != layer.lora_A.shape for path, layer in self.layers.items()):
            raise CheckpointError(folder, "holds another adapter")
        for path, layer in self.layers.items():
            layer.lora_A.data[...] = found[path].a
            layer.lora_B.data[...] = found[path].b

    def merge(self, model: LanguageModel) -> LanguageModel:
        """Add the adapter to the weights of its model, in place, and make all parameters trainable again.

        Parameters
        ----------
        model : LanguageModel
            The model that the adapter was added to.

        Returns
        -------
        LanguageModel
            The same one, without adapter.

        Raises
        ------
        ValueError
            If the adapter was added to another model.
        """
        modules = dict(model.named_modules())
        if not self.layers or any(modules.get(path) is not layer for path, layer in self.layers.items()):
            raise ValueError(
                "the adapter was not added to this model, or is merged already: pass the model it was added to"
            )
        merged: dict[str, Linear] = {}
        for path, layer in self.layers.items():
            linear = merged[path] = layer.merge()
            layer.weight.data[...] = linear.weight.data  # in place: large models stay in their one array
            linear.weight.data = layer.weight.data
            if linear.bias is not None and layer.bias is not None:
                linear.bias.data = layer.bias.data
        replace_modules(model, merged)
        for parameter in model.parameters():
            parameter.requires_grad = True
        self.layers = {}
        return model


def train_last_blocks(model: LanguageModel, count: int) -> None:
    """Freeze a model but for its last blocks and the normalization after them.

    Parameters
    ----------
    model : LanguageModel
    count : int
        The number of blocks that are trained.

    Raises
    ------
    ValueError
        If the model has fewer blocks, or int8 weights.
    """
    require_float32(model)
    blocks = model.transformer.blocks
    if not 1 <= count <= len(blocks):
        raise ValueError(f"last_blocks ({count}) must be from 1 to {len(blocks)}, the number of blocks of the model")
    for parameter in model.parameters():
        parameter.requires_grad = False
    norm: object = model.transformer.norm
    for module in [*blocks[-count:], *([norm] if isinstance(norm, Module) else [])]:
        for parameter in module.parameters():
            parameter.requires_grad = True


def weights_sha256(model: LanguageModel) -> str:
    """Return the SHA-256 sum of the names, shapes and numbers of a model's weights, without those of an adapter.

    Parameters
    ----------
    model : LanguageModel
    """
    total = hashlib.sha256()
    for name, array in sorted(model.state_dict().items()):
        if not name.endswith((".lora_A", ".lora_B")):
            total.update(f"{name} {array.shape} {array.dtype.str}\n".encode())
            total.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return total.hexdigest()


def read_base(folder: Path) -> BaseModel | None:
    """Read the identity of the base of an adapter's folder; None where PEFT wrote it.

    Raises
    ------
    CheckpointError
        If the file is damaged.
    """
    path = folder / BASE
    if not os.path.lexists(path):
        return None
    return from_json(BaseModel, BASE_FORMAT.upgrade(read_json(path), path), path)


def _restored(linear: Linear, low: LowRank, options: AdapterOptions) -> LoRALinear:
    """Return an adapted layer with the matrices of a file."""
    rank = len(low.a)
    alpha = options.alpha if rank == options.rank else low.scale * options.divisor(rank)
    layer = LoRALinear(linear, rank, alpha=alpha, dropout=options.dropout, rslora=options.rslora)
    layer.lora_A.data[...] = low.a
    layer.lora_B.data[...] = low.b
    return layer


def _low_rank(layer: LoRALinear) -> LowRank:
    return LowRank(layer.lora_A.data, layer.lora_B.data, layer.scale)


def _attach(model: LanguageModel, adapted: Mapping[str, LoRALinear]) -> None:
    """Freeze a model, and put adapted layers into it."""
    for parameter in model.parameters():
        parameter.requires_grad = False
        parameter.grad = None
    replace_modules(model, adapted)
