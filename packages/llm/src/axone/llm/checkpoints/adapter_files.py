"""Files of a fine-tuning's checkpoint: the adapter, and the name and SHA-256 sum of its base, but not the base."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from axone.llm.adapters.adapter import BASE, Adapter, read_base
from axone.llm.adapters.peft import CONFIG
from axone.llm.checkpoints.bundle import ModelBundle, open_bundle
from axone.llm.errors import AxoneError, CheckpointError


@dataclass(frozen=True)
class AdapterFiles:
    """The files of an adapter, as a checkpoint holds them.

    Attributes
    ----------
    adapter : Adapter
    """

    adapter: Adapter

    @property
    def num_bytes(self) -> int:
        """The approximate size of its files."""
        layers = self.adapter.layers.values()
        return sum(layer.lora_A.data.nbytes + layer.lora_B.data.nbytes for layer in layers)

    def write(self, folder: Path) -> None:
        """Write its files."""
        self.adapter.save(folder)


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds an adapter."""
    return os.path.lexists(folder / CONFIG)


def open_adapted(folder: Path) -> tuple[ModelBundle, Adapter]:
    """Open the base of an adapter's folder, and add the adapter to it.

    Returns
    -------
    bundle : ModelBundle
        Its model has the adapter, and is frozen otherwise.
    adapter : Adapter

    Raises
    ------
    CheckpointError
        If the folder names no base, the base cannot be opened or has other weights, or the adapter is damaged.
    """
    base = read_base(folder)
    if base is None or base.name is None:
        raise CheckpointError(folder, f"does not name its base in {BASE}: open the base, and load the adapter into it")
    try:
        bundle = open_bundle(base.name)
    except (AxoneError, OSError) as error:
        raise CheckpointError(folder, f"needs its base, which cannot be opened ({error})") from error
    adapter = Adapter.load(bundle.model, folder)
    adapter.options = replace(adapter.options, base_name=base.name)
    return bundle, adapter
