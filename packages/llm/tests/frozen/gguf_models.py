"""Makes gguf_models/: the models of families/ as GGUF files, written with the gguf package.

    python gguf_models.py        (gguf 0.19.0, transformers 5.24.0, torch 2.13.0)

The rows of queries and keys of the architecture llama are permuted as llama.cpp's converter does it. transformers reads each
file, and its logits must be those that families.py stored.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import gguf  # type: ignore[import-not-found]  # a peer, which our environment does not have
import numpy as np
import torch  # type: ignore[import-not-found]  # likewise
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM  # type: ignore[import-not-found]  # likewise

FOLDER = Path(__file__).with_suffix("")
FAMILIES = Path(__file__).with_name("families")
NAMES = ("llama", "llama-head-dim", "llama3", "qwen2", "qwen3")


def main() -> None:
    """Write the files."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    ids = torch.arange(12)[None] % 29
    for name in NAMES:
        config = json.loads((FAMILIES / name / "config.json").read_text(encoding="utf-8"))
        write(FOLDER / f"{name}.gguf", config, load_file(FAMILIES / name / "model.safetensors"))
        if name in ("llama", "qwen2"):  # transformers ignores rope_freqs, and key_length outside Qwen3 MoE
            model = AutoModelForCausalLM.from_pretrained(FOLDER, gguf_file=f"{name}.gguf").eval()
            with torch.no_grad():
                logits = model(ids).logits[0].numpy()
            np.testing.assert_allclose(logits, np.load(FAMILIES / name / "logits.npy"), atol=1e-5)


def write(path: Path, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write one file."""
    kind, heads, kv_heads = config["model_type"], config["num_attention_heads"], config["num_key_value_heads"]
    width = config.get("head_dim") or config["hidden_size"] // heads
    writer = gguf.GGUFWriter(path, kind)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([chr(97 + i) for i in range(29)])
    writer.add_token_types([1] * 29)
    writer.add_token_merges([])
    writer.add_eos_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[kind.upper()], config["num_hidden_layers"])
    rope = config["rope_parameters"]
    if rope["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", divisors(rope, width))
    for name, array in tensors.items():
        interleaved = {"q_proj": heads, "k_proj": kv_heads}.get(name.split(".")[-2]) if kind == "llama" else None
        stored = permuted(array, interleaved) if interleaved else array
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def permuted(array: np.ndarray, heads: int) -> np.ndarray:
    """Return rows in the order of the architecture llama: the rotated channels of a head side by side."""
    return array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


def divisors(rope: dict[str, float], width: int) -> np.ndarray:
    """Return by how much Llama 3's scaling divides the angle of each channel."""
    waves = 2 * np.pi * rope["rope_theta"] ** (np.arange(0, width, 2) / width)
    original, low, high = (
        rope[name] for name in ("original_max_position_embeddings", "low_freq_factor", "high_freq_factor")
    )
    smooth = np.clip((original / waves - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / rope["factor"] + smooth)).astype(np.float32)


if __name__ == "__main__":
    main()
