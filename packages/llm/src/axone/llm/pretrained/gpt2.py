"""The GPT-2 family: Hugging Face's names, shapes and options, and ours.

Its linear layers hold weights as (in, out), ours as (out, in). Its models always have biases: a model of ours without
them is written with zeros, and a section of its own in ``config.json`` says so.

References
----------
.. [1] Hugging Face, "GPT-2", https://huggingface.co/docs/transformers/model_doc/gpt2
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from axone.llm.config import LanguageModelConfig
from axone.llm.errors import CheckpointError
from axone.llm.pretrained.family import TensorSpec
from axone.llm.pretrained.layout import parameter_shapes
from axone.llm.storage.json_schema import from_json

# Ours and Hugging Face's, of the fields that vary.
FIELDS = {
    "vocab_size": "vocab_size",
    "context_length": "n_positions",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "embed_dim": "n_embd",
    "hidden_dim": "n_inner",
    "tie_embeddings": "tie_word_embeddings",
    "dropout": "resid_pdrop",
    "norm_eps": "layer_norm_epsilon",
}

# Those that we compute in one way only: any other value is refused, not ignored.
FIXED = {
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "reorder_and_upcast_attn": (False,),
    "add_cross_attention": (False,),
}

_NAMES = {
    "embedding": "transformer.wte",
    "transformer.position": "transformer.wpe",
    "transformer.norm": "transformer.ln_f",
    "transformer.blocks": "transformer.h",
    "attention_norm": "ln_1",
    "attention.qkv_proj": "attn.c_attn",
    "attention.out_proj": "attn.c_proj",
    "mlp_norm": "ln_2",
    "mlp.up_proj": "mlp.c_fc",
    "mlp.down_proj": "mlp.c_proj",
    "head": "lm_head",
}


def fits(config: LanguageModelConfig) -> bool:
    """Tell whether GPT-2 can be what the configuration describes."""
    kinds = (config.norm, config.position, config.mlp, config.kv_heads, config.qk_norm, config.has_qkv_bias)
    same_width = config.head_width * config.num_heads == config.embed_dim
    return same_width and kinds == ("layer", "learned", "gelu", config.num_heads, False, config.bias)


def to_config_json(config: LanguageModelConfig) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        **{theirs: getattr(config, ours) for ours, theirs in FIELDS.items()},
        **{field: allowed[0] for field, allowed in FIXED.items()},
        "embd_pdrop": config.dropout,
        "attn_pdrop": 0.0,
        "bos_token_id": None,
        "eos_token_id": None,
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
            raise CheckpointError(path, f"{field} must be {allowed[0]!r}, and is {content[field]!r:.60}")
    own = content.get("axone", {})
    if not isinstance(own, dict) or not set(own) <= {"bias"}:
        raise CheckpointError(path, "axone must be a JSON object that says nothing but whether there is a bias")
    given = {ours: content[theirs] for ours, theirs in FIELDS.items() if theirs in content}
    return from_json(LanguageModelConfig, {**own, **given}, path, called=FIELDS)


def places(config: LanguageModelConfig) -> Iterator[TensorSpec]:
    """Yield where each parameter lies in a file: these models always have biases."""
    for name, shape in parameter_shapes(replace(config, bias=True)):
        transposed = len(shape) == 2 and ".blocks." in name
        absent = name.endswith(".bias") and not config.bias
        yield TensorSpec(None if absent else name, _file_name(name), shape[::-1] if transposed else shape, transposed)


def canonical_name(name: str) -> str:
    """Return today's form of a name: old files, and the official ones, have no prefix."""
    return name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"


def is_ignored(name: str) -> bool:
    """Tell whether a file may hold an array that is not read: causal masks, and a tied output layer, in old ones."""
    return name.endswith((".attn.bias", ".attn.masked_bias")) or name == "lm_head.weight"


def _file_name(name: str) -> str:
    """Return Hugging Face's name of a parameter."""
    block = re.fullmatch(r"(transformer\.blocks)\.(\d+)\.(.+)\.(weight|bias)", name)
    if block is not None:
        return f"{_NAMES[block[1]]}.{block[2]}.{_NAMES[block[3]]}.{block[4]}"
    layer, _, kind = name.rpartition(".")
    return f"{_NAMES[layer]}.{kind}"
