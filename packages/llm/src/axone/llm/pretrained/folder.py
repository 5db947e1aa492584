"""A model's folder: ``config.json`` and ``model.safetensors``, read and written through its family.

The family, such as `gpt2`, says how names and shapes translate; here are the files.
"""

from pathlib import Path

from axone.llm.config import LanguageModelConfig
from axone.llm.errors import CheckpointError
from axone.llm.files import read_json, write_json
from axone.llm.pretrained import gpt2
from axone.llm.weights import State, read_arrays, write_arrays

CONFIG = "config.json"
WEIGHTS = "model.safetensors"


def write(folder: Path, config: LanguageModelConfig, state: State) -> None:
    """Write a model's configuration and weights."""
    folder.mkdir(parents=True, exist_ok=True)
    write_arrays(folder / WEIGHTS, gpt2.to_files(config, state))
    write_json(folder / CONFIG, gpt2.to_config_json(config))


def read(folder: Path) -> tuple[LanguageModelConfig, State]:
    """Read a model's configuration and weights.

    Raises
    ------
    CheckpointError
        If there are none, or they are of a kind that is not known.
    """
    content = read_json(folder / CONFIG)
    kind = content.get("model_type")
    if kind != "gpt2":
        raise CheckpointError(folder / CONFIG, f'the model_type must be "gpt2", and is {kind!r}')
    config = gpt2.from_config_json(folder / CONFIG, content)
    return config, gpt2.from_files(folder / WEIGHTS, config, read_arrays(folder / WEIGHTS))
