"""Models in GGUF files: architectures llama, qwen2 and qwen3, read and written through their families.

Tensors have names of llama.cpp's own. The rows of queries and keys of the architecture llama lie in interleaved order,
where each rotated channel is beside its partner; those of qwen2 and qwen3 do not.

References
----------
.. [1] llama.cpp, "convert_hf_to_gguf.py" and "llama-arch.cpp", https://github.com/ggml-org/llama.cpp
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from axone.llm.config import LanguageModelConfig
from axone.llm.errors import CheckpointError
from axone.llm.pretrained.family import Family, TensorSpec, read_fields
from axone.llm.pretrained.gguf.quantization import F32, Q8_0, TensorType
from axone.llm.pretrained.gguf.reader import GGUFFile, Value
from axone.llm.pretrained.gguf.writer import WRITTEN, write_gguf
from axone.llm.pretrained.llama import LLAMA, QWEN2, QWEN3
from axone.llm.pretrained.weights import MatchedWeights, Order, match, require_merged, require_sizes, tensors_of
from axone.llm.storage.safetensors import Shape, State
from axone.nn import Llama3Scaling, RotaryEmbedding

ARCHITECTURES: Mapping[str, Family] = {family.model_type: family for family in (LLAMA, QWEN2, QWEN3)}
ROPE_FREQS = "rope_freqs.weight"
_OWN_SCALING = "axone.rope.scaling"
EOS_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")

_TOKENIZER = "tokenizer.ggml."
_WITHOUT_EOS = "axone.tokenizer.without_eos"
_BYTE_255 = ("ÿ", "<0xFF>")  # a byte that UTF-8 never has, as byte-level and SentencePiece vocabularies spell it
_UNUSED = 5  # the type of a token that no text holds

_FIELDS = {
    "context_length": "context_length",
    "num_layers": "block_count",
    "num_heads": "attention.head_count",
    "num_kv_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "embed_dim": "embedding_length",
    "hidden_dim": "feed_forward_length",
    "norm_eps": "attention.layer_norm_rms_epsilon",
    "rope_theta": "rope.freq_base",
}
_ABSENT = {"expert_count": "experts", "attention.sliding_window": "sliding windows", "attention.clamp_kqv": "clamping"}
_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7}


class PretrainedGGUF:
    """A GGUF file whose configuration has been read, as a context manager.

    Parameters
    ----------
    path : Path

    Attributes
    ----------
    config : LanguageModelConfig
    eos_ids : tuple of int
        The ids that end a text.
    dtype : dtype
        Of the parameters that the weights are converted to: float32.
    metadata : mapping of str to value
    path : Path
    shapes : mapping of str to tuple of int

    Raises
    ------
    CheckpointError
        If the file is damaged, or its model is not computed exactly.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = GGUFFile(path)
        try:
            self.metadata = _without_stand_in(self._file.metadata)
            self.shapes: dict[str, Shape] = {name: info.shape for name, info in self._file.tensors.items()}
            self.config = self._config()
            self.eos_ids = self._eos_ids()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def match(self, shapes: Mapping[str, Shape]) -> MatchedWeights:
        """Match the weights against the shapes of a model's parameters by name.

        Raises
        ------
        CheckpointError
            If they do not fit.
        """
        specs = tensor_specs(self._architecture(), self.config, shapes)
        return match(self, specs, lambda name: name, lambda name: name == ROPE_FREQS)

    def read(self, name: str, out: NDArray[np.floating[Any]], order: Order | None = None) -> None:
        """Dequantize a tensor into an array: row i of it is row ``order[i]`` of the tensor."""
        self._file.read(name, out, order)

    def _single(self, key: str, default: str | int | None = None) -> str | int | float | None:
        """Return a value of the metadata that must not be an array."""
        value = self.metadata.get(key, default)
        if isinstance(value, (list, np.ndarray)):
            raise CheckpointError(self.path, f"{key} must be a single value, not an array of {len(value)}")
        return value

    def _architecture(self) -> str:
        name = self.metadata.get("general.architecture")
        if not isinstance(name, str) or name not in ARCHITECTURES:
            raise CheckpointError(self.path, f"its architecture is {name!r:.60}: {', '.join(ARCHITECTURES)} are read")
        return name

    def _config(self) -> LanguageModelConfig:
        architecture = self._architecture()
        keys = {ours: f"{architecture}.{theirs}" for ours, theirs in _FIELDS.items()}
        for key, what in _ABSENT.items():
            if self._single(f"{architecture}.{key}"):
                raise CheckpointError(self.path, f"{architecture}.{key} asks for {what}, which are not computed here")
        if self._single("split.count", 1) not in {0, 1}:
            raise CheckpointError(self.path, "is a part of a split model: join its files with llama-gguf-split --merge")
        if keys["rope_theta"] not in self.metadata:
            raise CheckpointError(self.path, f"{keys['rope_theta']} is nowhere: no default is safe, so add the value")
        embedding = self.shapes.get("token_embd.weight", (0,))
        content = {
            key: float(str(np.float32(value))) if isinstance(value, float) else value  # 1e-5, not 9.9999997e-06
            for key, value in self.metadata.items()
            if key in keys.values()
        }
        given = {
            "vocab_size": embedding[0],
            "norm": "rms",
            "position": "rotary",
            "mlp": "swiglu",
            "bias": "blk.0.ffn_up.bias" in self.shapes,
            "qkv_bias": "blk.0.attn_q.bias" in self.shapes,
            "qk_norm": "blk.0.attn_q_norm.weight" in self.shapes,
            "qk_norm_eps": content.get(keys["norm_eps"], 1e-6),
            "tie_embeddings": "output.weight" not in self.shapes,
        }
        if given["qkv_bias"] == given["bias"]:
            given["qkv_bias"] = None
        if not given["qk_norm"]:
            del given["qk_norm_eps"]
        config = read_fields(self.path, content, keys, given)
        require_sizes(self.path, config, self.shapes)
        self._require_whole_rotation(architecture, config)
        return replace(config, rope_scaling=self._scaling(architecture, config))

    def _require_whole_rotation(self, architecture: str, config: LanguageModelConfig) -> None:
        """Check that rotary positions rotate all channels of a head, which has one width for keys and values."""
        for key in ("rope.dimension_count", "attention.value_length"):
            width = self._single(f"{architecture}.{key}", config.head_width)
            if width != config.head_width:
                raise CheckpointError(
                    self.path,
                    f"{architecture}.{key} is {width!r:.20}: only the width of a head, {config.head_width}, is read",
                )

    def _scaling(self, architecture: str, config: LanguageModelConfig) -> Llama3Scaling | None:
        """Return the scaling of the rotary angles, which Llama 3's files hold as a divisor for each channel."""
        kind = self._single(f"{architecture}.rope.scaling.type", "none")
        if kind != "none":
            raise CheckpointError(
                self.path, f"rope.scaling.type is {kind!r:.60}: only none and llama3 are computed here"
            )
        if ROPE_FREQS not in self.shapes:
            return None
        if self.shapes[ROPE_FREQS] != (config.head_width // 2,):
            raise CheckpointError(self.path, f"{ROPE_FREQS} must have shape ({config.head_width // 2},)")
        divisors = np.empty(config.head_width // 2, np.float32)
        self._file.read(ROPE_FREQS, divisors)
        if (divisors == 1).all():
            return None
        own = self.metadata.get(_OWN_SCALING)
        candidates = _llama3_candidates(divisors.astype(np.float64), config)
        for scaling in itertools.chain(_stated(own) if isinstance(own, np.ndarray) else (), candidates):
            if np.allclose(divisors, scaling_divisors(replace(config, rope_scaling=scaling)), rtol=1e-6, atol=0):
                return scaling
        raise CheckpointError(self.path, f"{ROPE_FREQS} is not the scaling of Llama 3, and no other is computed here")

    def _eos_ids(self) -> tuple[int, ...]:
        """Return the ids that end a text: those that llama.cpp stops at."""
        found = {self._single(_TOKENIZER + key) for key in EOS_KEYS}
        ids = [id for id in found if isinstance(id, int) and not isinstance(id, bool)]
        return tuple(sorted(id for id in ids if 0 <= id < self.config.vocab_size))


def save_model(
    path: Path,
    config: LanguageModelConfig,
    state: State,
    *,
    dtype: str = "f16",
    metadata: Mapping[str, Value] | None = None,
) -> None:
    """Write a model as a GGUF file.

    Parameters
    ----------
    path : Path
    config : LanguageModelConfig
    state : mapping of str to ndarray
        The parameters' arrays by name.
    dtype : {"f32", "f16", "q8_0"}
        Of the matrices; vectors stay float32, and matrices whose row length is not a multiple of 32 are float16.
    metadata : mapping of str to value, optional
        More metadata, such as a tokenizer's.

    Raises
    ------
    ValueError
        If no architecture of `ARCHITECTURES` can express the model, or the dtype is unknown.
    OSError
        If the file cannot be written; the old one stays.
    """
    require_merged(state)
    if dtype not in WRITTEN:
        raise ValueError(f"dtype ({dtype!r}) must be one of {', '.join(WRITTEN)}")
    architecture = next((name for name, family in ARCHITECTURES.items() if family.fits(config)), None)
    if architecture is None:
        raise ValueError(
            "a GGUF file holds models with RMS norms, rotary positions and SwiGLU (Llama, Qwen2, Qwen3), and this model "
            f'has norm="{config.norm}", position="{config.position}", mlp="{config.mlp}": save it as a folder'
        )
    specs = tensor_specs(architecture, config, {name: array.shape for name, array in state.items()})
    tensors = {name: (_tensor_type(array, dtype), array) for name, array in tensors_of(specs, state).items()}
    stated: dict[str, Value] = {}
    if config.rope_scaling is not None:
        tensors[ROPE_FREQS] = F32, scaling_divisors(config)
        stated[_OWN_SCALING] = np.array(astuple(config.rope_scaling), np.float64)
    keys = {f"{architecture}.{theirs}": getattr(config, ours) for ours, theirs in _FIELDS.items()}
    own: dict[str, Value] = {
        "general.architecture": architecture,
        "general.file_type": _FILE_TYPES[WRITTEN[dtype].name],
        **keys,
        f"{architecture}.attention.head_count_kv": config.kv_heads,
        f"{architecture}.attention.key_length": config.head_width,
        f"{architecture}.attention.value_length": config.head_width,
        f"{architecture}.feed_forward_length": config.mlp_dim,
        f"{architecture}.rope.dimension_count": config.head_width,
        f"{architecture}.rope.freq_base": float(config.rope_theta),
        f"{architecture}.vocab_size": config.vocab_size,
    }
    write_gguf(path, {**own, **stated, **(metadata or {})}, tensors)


def tokenizer_metadata(tokenizer: Mapping[str, Any], vocab_size: int, eos_ids: Sequence[int]) -> dict[str, Value]:
    """Return a tokenizer's metadata with a token for each row of the embedding, and with the model's end-of-text ids.

    llama.cpp refuses a file with fewer tokens than rows. In a file without an end-of-text id, it takes a default: 11 in
    byte-level vocabularies, GPT-2's comma. So the byte 255 stands in, which no text has, and a key of our own says so.

    Parameters
    ----------
    tokenizer : mapping of str to value
        The keys that begin with ``tokenizer.ggml.``.
    vocab_size : int
        The number of rows.
    eos_ids : sequence of int
    """
    metadata = dict(tokenizer)
    missing = range(len(metadata[f"{_TOKENIZER}tokens"]), vocab_size)
    padding: dict[str, Sequence[object]] = {
        "tokens": [f"[PAD{id}]" for id in missing],
        "token_type": [_UNUSED for _ in missing],
    }
    if f"{_TOKENIZER}scores" in metadata:
        padding["scores"] = [0.0 for _ in missing]
    for name, values in padding.items():
        metadata[_TOKENIZER + name] = [*metadata[_TOKENIZER + name], *values]
    known = {metadata.get(_TOKENIZER + key) for key in EOS_KEYS}
    free = [key for key in EOS_KEYS if _TOKENIZER + key not in metadata]
    metadata |= {_TOKENIZER + key: id for key, id in zip(free, sorted({*eos_ids} - known))}
    if not any(_TOKENIZER + key in metadata for key in EOS_KEYS):
        tokens = metadata[f"{_TOKENIZER}tokens"]
        stand_in = next((tokens.index(text) for text in _BYTE_255 if text in tokens), None)
        if stand_in is not None:
            metadata |= {_TOKENIZER + EOS_KEYS[0]: stand_in, _WITHOUT_EOS: True}
    return metadata


def _without_stand_in(metadata: Mapping[str, Value]) -> Mapping[str, Value]:
    """Return metadata without the end-of-text id that `tokenizer_metadata` wrote for a model that has none."""
    if metadata.get(_WITHOUT_EOS) is not True:
        return metadata
    return {key: value for key, value in metadata.items() if key != _TOKENIZER + EOS_KEYS[0]}


def tensor_specs(architecture: str, config: LanguageModelConfig, shapes: Mapping[str, Shape]) -> Sequence[TensorSpec]:
    """Return the tensors of a file: those of the family, under llama.cpp's names and in its order of rows."""
    heads = {"attn_q": config.num_heads, "attn_k": config.kv_heads} if architecture == "llama" else {}
    specs = []
    for spec in ARCHITECTURES[architecture].tensors(config, shapes):
        layer, _, kind = spec.file_name.rpartition(".")
        block = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", layer)
        name = _NAMES[layer if block is None else block[2]]
        full = f"{name}.{kind}" if block is None else f"blk.{block[1]}.{name}.{kind}"
        specs.append(replace(spec, file_name=full, interleaved_heads=heads.get(name, 0)))
    return specs


def scaling_divisors(config: LanguageModelConfig) -> NDArray[np.float32]:
    """Return by how much a configuration's scaling divides the angle of each rotated channel, (D / 2,)."""
    plain, scaled = (
        RotaryEmbedding(config.head_width, theta=config.rope_theta, scaling=scaling).speeds
        for scaling in (None, config.rope_scaling)
    )
    return (plain / scaled).astype(np.float32)


def _stated(values: NDArray[Any]) -> Iterator[Llama3Scaling]:
    """Yield the scaling that a file of ours states beside its divisors, which several scalings can give."""
    with contextlib.suppress(ValueError, OverflowError):
        factor, low, high, original = map(float, values)
        yield Llama3Scaling(factor, low, high, int(original))


def _llama3_candidates(divisors: NDArray[np.float64], config: LanguageModelConfig) -> Iterator[Llama3Scaling]:
    """Yield scalings of Llama 3, with its usual frequency factors, that could have given the divisors of the channels.

    A channel between the two frequency factors tells the original context length; without one, several lengths give the
    same divisors.
    """
    factor = float(divisors.max())
    if not (np.isfinite(divisors).all() and divisors.min() >= 1 and factor > 1):
        return
    low, high = Llama3Scaling.low_freq_factor, Llama3Scaling.high_freq_factor
    speeds = RotaryEmbedding(config.head_width, theta=config.rope_theta).speeds
    kept = (1 / divisors - 1 / factor) / (1 - 1 / factor)
    lengths = (kept * (high - low) + low) * 2 * math.pi / speeds
    between = (kept > 1e-3) & (kept < 1 - 1e-3)
    candidates = lengths[between] if between.any() else (8192.0, config.context_length / factor, config.context_length)
    for length in candidates:
        yield Llama3Scaling(factor=round(factor, 4), original_context_length=max(round(length), 1))


def _tensor_type(array: NDArray[Any], dtype: str) -> TensorType:
    kind = WRITTEN[dtype]
    if array.ndim < 2:
        return F32
    return WRITTEN["f16"] if kind is Q8_0 and array.shape[-1] % Q8_0.weights_per_block else kind
