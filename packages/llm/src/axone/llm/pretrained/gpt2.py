"""The GPT-2 family: Hugging Face's names, shapes and options, and ours.

Its linear layers hold weights as (in, out), ours as (out, in). Its models always have biases: a model of ours without
them is written with zeros, and a section of its own in ``config.json`` says so.

References
----------
.. [1] Hugging Face, "GPT-2", https://huggingface.co/docs/transformers/model_doc/gpt2
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.llm.config import LanguageModelConfig
from axone.llm.errors import CheckpointError

PREFIX = "transformer."

# Hugging Face's fields that we compute in one way only: any other value is refused, not ignored.
FIXED = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False,),
    "add_cross_attention": (False,),
}


def to_config_json(config: LanguageModelConfig) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_embd": config.embed_dim,
        "n_layer": config.num_layers,
        "n_head": config.num_heads,
        "n_inner": config.hidden_dim,
        "activation_function": "gelu_new",
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": 0.0,
        "layer_norm_epsilon": config.norm_eps,
        "initializer_range": 0.02,
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": config.tie_embeddings,
        "use_cache": True,
        "dtype": "float32",
        "axone": {"bias": config.bias},
    }


def from_config_json(path: Path, content: dict[str, Any]) -> LanguageModelConfig:
    """Return the configuration that ``config.json`` describes.

    Raises
    ------
    CheckpointError
        If a field is missing, or has a value that is not computed here.
    """
    for field, allowed in FIXED.items():
        if content.get(field, allowed[0]) not in allowed:
            raise CheckpointError(path, f"{field} must be {allowed[0]!r}, and is {content[field]!r}")
    try:
        return LanguageModelConfig(
            vocab_size=content["vocab_size"],
            context_length=content["n_positions"],
            num_layers=content["n_layer"],
            num_heads=content["n_head"],
            embed_dim=content["n_embd"],
            hidden_dim=content.get("n_inner"),
            bias=content.get("axone", {}).get("bias", True),
            tie_embeddings=content.get("tie_word_embeddings", True),
            dropout=content.get("resid_pdrop", 0.0),
            norm_eps=content.get("layer_norm_epsilon", 1e-5),
        )
    except KeyError as error:
        raise CheckpointError(path, f"{error.args[0]} is missing") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise CheckpointError(path, str(error)) from error


def to_files(config: LanguageModelConfig, state: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the weights under Hugging Face's names and in its shapes."""
    files = {}
    for theirs, ours, transposed in _names(config):
        if ours in state:
            files[theirs] = state[ours].T if transposed else state[ours]
        else:  # a bias that the model does without
            files[theirs] = np.zeros(_bias_length(config, theirs), state["embedding.weight"].dtype)
    return files


def from_files(path: Path, config: LanguageModelConfig, files: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the weights under our names and in our shapes.

    Raises
    ------
    CheckpointError
        With every missing, extra and misshapen name.
    """
    named = {name.removeprefix(PREFIX): array for name, array in files.items()}
    state, faults = {}, []
    for theirs, ours, transposed in _names(config):
        array = named.pop(theirs.removeprefix(PREFIX), None)
        if array is None:
            faults.append(f"{theirs} is missing")
        elif config.bias or not theirs.endswith(".bias"):
            state[ours] = array.T if transposed else array
    # Old files hold the causal masks, and the output layer beside the embedding that it is tied to.
    faults += [
        f"{name} is not expected"
        for name in named
        if not name.endswith((".attn.bias", ".attn.masked_bias")) and name != "lm_head.weight"
    ]
    if faults:
        raise CheckpointError(path, "; ".join(faults))
    return state


def _names(config: LanguageModelConfig) -> Iterator[tuple[str, str, bool]]:
    """Yield Hugging Face's name, ours, and whether one is the other transposed."""
    yield f"{PREFIX}wte.weight", "embedding.weight", False
    yield f"{PREFIX}wpe.weight", "transformer.position.weight", False
    layers = [
        ("ln_1", "attention_norm"),
        ("attn.c_attn", "attention.qkv_proj"),
        ("attn.c_proj", "attention.out_proj"),
        ("ln_2", "mlp_norm"),
        ("mlp.c_fc", "mlp.up_proj"),
        ("mlp.c_proj", "mlp.down_proj"),
    ]
    for i in range(config.num_layers):
        for theirs, ours in layers:
            for kind in ("weight", "bias"):
                yield (
                    f"{PREFIX}h.{i}.{theirs}.{kind}",
                    f"transformer.blocks.{i}.{ours}.{kind}",
                    kind == "weight" and "norm" not in ours,
                )
    yield f"{PREFIX}ln_f.weight", "transformer.norm.weight", False
    yield f"{PREFIX}ln_f.bias", "transformer.norm.bias", False
    if not config.tie_embeddings:
        yield "lm_head.weight", "head.weight", False


def _bias_length(config: LanguageModelConfig, name: str) -> int:
    """Return the length of a bias by Hugging Face's name."""
    if ".c_attn." in name:
        return 3 * config.embed_dim
    return config.mlp_dim if ".c_fc." in name else config.embed_dim
