"""The GPT-2 family: Hugging Face's names, shapes and options, and ours.

Its linear layers hold weights as (in, out), ours as (out, in). Its models always have biases: a model of ours without
them is written with zeros. Dropout of attention weights, which our layers lack, and rates that differ are read as no
dropout, with a warning: they change training, and never what a trained model computes.

References
----------
.. [1] Hugging Face, "GPT-2", https://huggingface.co/docs/transformers/model_doc/gpt2
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from axone.llm.config import LanguageModelConfig
from axone.llm.errors import CheckpointError, warn_caller
from axone.llm.pretrained.family import TensorSpec, own_section, read_fields, require_fixed
from axone.llm.storage.safetensors import Shape

_FIELDS = {
    "vocab_size": "vocab_size",
    "context_length": "n_positions",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "embed_dim": "n_embd",
    "hidden_dim": "n_inner",
    "tie_embeddings": "tie_word_embeddings",
    "norm_eps": "layer_norm_epsilon",
}
_FIXED: dict[str, tuple[object, ...]] = {
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
_WITHOUT_BIAS = ("embedding", "transformer.position", "head")


class _GPT2:
    """Translation of the GPT-2 family."""

    model_type = "gpt2"
    head = "lm_head.weight"

    def fits(self, config: LanguageModelConfig) -> bool:
        """Return whether GPT-2 can express a configuration."""
        kinds = (config.norm, config.position, config.mlp, config.qk_norm, config.has_qkv_bias)
        numbers = (config.max_ngram, config.embedding_scale, config.kv_heads, config.head_width * config.num_heads)
        return kinds == ("layer", "learned", "gelu", False, config.bias) and numbers == (
            1,
            1,
            config.num_heads,
            config.embed_dim,
        )

    def to_config_json(self, config: LanguageModelConfig) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        content: dict[str, Any] = {
            "model_type": self.model_type,
            "architectures": ["GPT2LMHeadModel"],
            **{theirs: getattr(config, ours) for ours, theirs in _FIELDS.items()},
            **{field: allowed[0] for field, allowed in _FIXED.items()},
            "resid_pdrop": config.dropout,
            "embd_pdrop": config.dropout,
            "attn_pdrop": 0.0,
            "use_cache": True,
        }
        return content | own_section(config, self.from_config_json(Path("config.json"), content))

    def from_config_json(self, path: Path, content: dict[str, Any]) -> LanguageModelConfig:
        """Return the configuration that ``config.json`` describes.

        Raises
        ------
        CheckpointError
            If a field is missing, or has a value that is not computed here.
        """
        require_fixed(path, content, _FIXED)
        rates = [content.get(f"{place}_pdrop", 0.1) for place in ("resid", "embd", "attn")]
        for rate in rates:
            if type(rate) not in {int, float} or not 0 <= rate < 1:
                raise CheckpointError(path, f"a dropout rate ({rate!r:.60}) must be a number in [0, 1)")
        dropout = rates[0] if rates == [rates[0], rates[0], 0] else 0.0
        if any(rates) and not dropout:
            warn_caller(
                f"{path} has dropout rates of {rates[0]:g} (resid), {rates[1]:g} (embd) and {rates[2]:g} (attn), which the "
                "layers cannot express: the model is read without dropout, which changes training and nothing else"
            )
        return read_fields(path, content, _FIELDS, {"dropout": dropout})

    def tensors(self, config: LanguageModelConfig, shapes: Mapping[str, Shape]) -> Iterator[TensorSpec]:
        """Yield the tensors of a weight file: these models always have biases."""
        for name, shape in shapes.items():
            transposed = len(shape) == 2 and ".blocks." in name
            yield TensorSpec(_file_name(name), shape[::-1] if transposed else shape, name, transposed=transposed)
            layer, _, kind = name.rpartition(".")
            if not config.bias and kind == "weight" and layer not in _WITHOUT_BIAS:
                yield TensorSpec(_file_name(f"{layer}.bias"), shape[:1], None)

    def canonical_name(self, name: str) -> str:
        """Return a name with its prefix, which old files and the official ones lack."""
        return name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"

    def is_ignored(self, name: str) -> bool:
        """Return whether a tensor is a causal mask, as old files hold them, or a tied output layer."""
        return name.endswith((".attn.bias", ".attn.masked_bias")) or name == self.head


GPT2 = _GPT2()


def _file_name(name: str) -> str:
    """Return Hugging Face's name of a parameter."""
    block = re.fullmatch(r"(transformer\.blocks)\.(\d+)\.(.+)\.(weight|bias)", name)
    if block is not None:
        return f"{_NAMES[block[1]]}.{block[2]}.{_NAMES[block[3]]}.{block[4]}"
    layer, _, kind = name.rpartition(".")
    return f"{_NAMES[layer]}.{kind}"
