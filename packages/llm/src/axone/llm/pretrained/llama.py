"""The Llama family and its relatives Qwen2 and Qwen3: Hugging Face's names, shapes and options, and ours.

SmolLM2 is a Llama. All three have RMS norms, rotary positions and SwiGLU. Qwen2 adds biases to queries, keys and values,
Qwen3 norms of queries and keys. Queries, keys and values are three tensors in the file and one parameter here.

References
----------
.. [1] Hugging Face, "Llama", https://huggingface.co/docs/transformers/model_doc/llama
.. [2] Hugging Face, "Qwen3", https://huggingface.co/docs/transformers/model_doc/qwen3
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from axone.llm.config import LanguageModelConfig
from axone.llm.errors import CheckpointError
from axone.llm.pretrained.family import TensorSpec, own_section, read_fields, require_fixed
from axone.llm.storage.safetensors import Shape

_FIELDS = {
    "vocab_size": "vocab_size",
    "context_length": "max_position_embeddings",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "embed_dim": "hidden_size",
    "hidden_dim": "intermediate_size",
    "norm_eps": "rms_norm_eps",
}
_FIXED: dict[str, tuple[object, ...]] = {
    "hidden_act": ("silu", "swish"),
    "use_sliding_window": (False, None),
    "rope_interleaved": (False, None),
    "partial_rotary_factor": (1.0, None),
    "no_rope_layers": (None, []),
}
_SCALING = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_context_length": "original_max_position_embeddings",
}
_NAMES = {
    "embedding": "model.embed_tokens",
    "transformer.norm": "model.norm",
    "head": "lm_head",
    "attention_norm": "input_layernorm",
    "attention.out_proj": "self_attn.o_proj",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate_proj": "mlp.gate_proj",
    "mlp.up_proj": "mlp.up_proj",
    "mlp.down_proj": "mlp.down_proj",
}


@dataclass(frozen=True)
class LlamaFamily:
    """Translation of Llama or one of its relatives.

    Attributes
    ----------
    model_type, architecture : str
        As in ``config.json``.
    qkv_bias, qk_norm : bool
        Whether the family has biases of queries, keys and values alone, and norms of queries and keys.
    """

    model_type: str
    architecture: str
    qkv_bias: bool = False
    qk_norm: bool = False
    head: str = "lm_head.weight"

    def fits(self, config: LanguageModelConfig) -> bool:
        """Return whether the family can express a configuration."""
        kinds = (config.norm, config.position, config.mlp, config.max_ngram, config.embedding_scale)
        if kinds != ("rms", "rotary", "swiglu", 1, 1):
            return False
        if config.qk_norm != self.qk_norm or config.has_qkv_bias != (self.qkv_bias or config.bias):
            return False
        if self.qk_norm and config.qk_norm_eps != config.norm_eps:
            return False
        plain = config.num_heads * config.head_width == config.embed_dim
        return not (config.bias and self.model_type != "llama") and (plain or self.model_type != "qwen2")

    def to_config_json(self, config: LanguageModelConfig) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        scaling = None
        if config.rope_scaling is not None:
            values = {theirs: getattr(config.rope_scaling, ours) for ours, theirs in _SCALING.items()}
            scaling = {"rope_type": "llama3", **values}
        content: dict[str, Any] = {
            "model_type": self.model_type,
            "architectures": [self.architecture],
            **{theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()},
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_width,
            "intermediate_size": config.mlp_dim,
            "hidden_act": "silu",
            "tie_word_embeddings": config.tie_embeddings,
            "rope_parameters": {"rope_theta": config.rope_theta, **(scaling or {"rope_type": "default"})},
            "rope_theta": config.rope_theta,  # this and the next are what transformers before 5 reads
            "rope_scaling": scaling,
            "attention_dropout": 0.0,
            "use_cache": True,
        }
        if self.model_type != "qwen2":
            content["attention_bias"] = config.bias
        if self.model_type == "llama":
            content["mlp_bias"] = config.bias
        return content | own_section(config, self.from_config_json(Path("config.json"), content))

    def from_config_json(self, path: Path, content: dict[str, Any]) -> LanguageModelConfig:
        """Return the configuration that ``config.json`` describes.

        Raises
        ------
        CheckpointError
            If a field is missing, or has a value that is not computed here.
        """
        require_fixed(path, content, _FIXED)
        layers = content.get("layer_types") or []
        if not isinstance(layers, list) or any(kind != "full_attention" for kind in layers):
            raise CheckpointError(
                path, "layer_types names other layers than full_attention: only that is computed here"
            )
        theta, scaling = self._rope(path, content)
        given: dict[str, Any] = {
            "norm": "rms",
            "position": "rotary",
            "mlp": "swiglu",
            "bias": self._bias(path, content),
            "qkv_bias": True if self.qkv_bias else None,
            "qk_norm": self.qk_norm,
            "tie_embeddings": content.get("tie_word_embeddings", False),
            "norm_eps": 1e-6,
            "rope_theta": theta,
            "rope_scaling": scaling,
        }
        if self.qk_norm:
            given["qk_norm_eps"] = content.get("rms_norm_eps", 1e-6)
        return read_fields(path, content, _FIELDS, given)

    def tensors(self, config: LanguageModelConfig, shapes: Mapping[str, Shape]) -> Iterator[TensorSpec]:
        """Yield the tensors of a weight file."""
        queries, keys = config.num_heads * config.head_width, config.kv_heads * config.head_width
        for name, shape in shapes.items():
            block = re.fullmatch(r"transformer\.blocks\.(\d+)\.(.+)\.(weight|bias)", name)
            if block is None:
                layer, _, kind = name.rpartition(".")
                yield TensorSpec(f"{_NAMES[layer]}.{kind}", shape, name)
            elif block[2] != "attention.qkv_proj":
                yield TensorSpec(f"model.layers.{block[1]}.{_NAMES[block[2]]}.{block[3]}", shape, name)
            else:
                first = 0
                for letter, rows in (("q", queries), ("k", keys), ("v", keys)):
                    file_name = f"model.layers.{block[1]}.self_attn.{letter}_proj.{block[3]}"
                    yield TensorSpec(file_name, (rows, *shape[1:]), name, slice(first, first + rows))
                    first += rows

    def canonical_name(self, name: str) -> str:
        """Return a name with its prefix, which files of the model without its head lack."""
        return name if name.startswith(("model.", "lm_head.")) else f"model.{name}"

    def is_ignored(self, name: str) -> bool:
        """Return whether a tensor holds the rotary frequencies, as old files do, or a tied output layer."""
        return name.endswith("rotary_emb.inv_freq") or name == self.head

    def _bias(self, path: Path, content: Mapping[str, Any]) -> bool:
        """Return whether all linear layers have a bias."""
        attention, mlp = (bool(content.get(f"{part}_bias", False)) for part in ("attention", "mlp"))
        if self.model_type == "llama" and attention == mlp:
            return attention
        if self.qkv_bias and not mlp:
            return False
        if attention or mlp:
            named = "attention_bias" if attention else "mlp_bias"
            raise CheckpointError(path, f"{named} is true alone, which is not computed here: all linear layers or none")
        return False

    def _rope(self, path: Path, content: Mapping[str, Any]) -> tuple[object, dict[str, Any] | None]:
        """Return the base of the rotary angles and their scaling: from ``rope_parameters``, or its older spelling."""
        rope = content.get("rope_parameters")
        if rope is None:
            rope = {"rope_theta": content.get("rope_theta"), **_object(path, content, "rope_scaling")}
        elif isinstance(rope, dict) and set(rope) == {"full_attention"}:
            rope = rope["full_attention"]
        if not isinstance(rope, dict):
            raise CheckpointError(path, f"rope_parameters must be a JSON object, not {rope!r:.60}")
        theta = rope.get("rope_theta", content.get("rope_theta"))
        if theta is None:
            raise CheckpointError(path, "rope_theta is nowhere: no default is safe, so add the model's own value")
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind is None or kind == "default":
            return theta, None
        if kind != "llama3":
            raise CheckpointError(path, f"rope_type is {kind!r:.60}: only default and llama3 are computed here")
        missing = [name for name in ("factor", "low_freq_factor", "high_freq_factor") if name not in rope]
        if missing:
            raise CheckpointError(path, f"{missing[0]} is missing in the scaling of type llama3")
        original = rope.get("original_max_position_embeddings", content.get("max_position_embeddings"))
        values = {**rope, "original_max_position_embeddings": original}
        return theta, {ours: values[theirs] for ours, theirs in _SCALING.items()}


LLAMA = LlamaFamily("llama", "LlamaForCausalLM")
QWEN2 = LlamaFamily("qwen2", "Qwen2ForCausalLM", qkv_bias=True)
QWEN3 = LlamaFamily("qwen3", "Qwen3ForCausalLM", qk_norm=True)


def _object(path: Path, content: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = content.get(name) or {}
    if not isinstance(value, dict):
        raise CheckpointError(path, f"{name} must be a JSON object, not {value!r:.60}")
    return value
