"""Makes families/: small random models of every family, as transformers saves them, and their logits.

    python families.py        (transformers 5.24.0, torch 2.13.0)

Each folder holds what `save_pretrained` wrote, and ``logits.npy``: of the ids ``arange(12) % 29``, computed in float64 from the
weights as they are in the file.
"""

import shutil
from pathlib import Path

import numpy as np
import torch  # type: ignore[import-not-found]  # a peer, which our environment does not have
from transformers import AutoConfig, AutoModelForCausalLM  # type: ignore[import-not-found]  # likewise

FOLDER = Path(__file__).with_suffix("")
GPT2: dict[str, object] = {
    "vocab_size": 29, "n_positions": 16, "n_layer": 2, "n_head": 2, "n_embd": 16, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0,
}  # fmt: skip
ROTARY: dict[str, object] = {
    "vocab_size": 29, "max_position_embeddings": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, object]]] = {
    "gpt2": ("gpt2", GPT2),
    "gpt2-untied": ("gpt2", {**GPT2, "tie_word_embeddings": False}),
    "llama": ("llama", {**ROTARY, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "llama-untied-bias": ("llama", {**ROTARY, "attention_bias": True, "mlp_bias": True}),
    "llama-head-dim": ("llama", {**ROTARY, "num_key_value_heads": 1, "head_dim": 8}),
    "llama3": ("llama", {**ROTARY, "rope_parameters": LLAMA3}),
    "llama-bf16": ("llama", {**ROTARY, "num_key_value_heads": 2}),
    "llama-shards": ("llama", {**ROTARY, "num_key_value_heads": 2}),
    "qwen2": ("qwen2", {**ROTARY, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {**ROTARY, "num_key_value_heads": 2, "head_dim": 8}),
    "qwen3-f16": ("qwen3", {**ROTARY, "num_key_value_heads": 2, "head_dim": 8}),
}


def main() -> None:
    """Write the folders."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    ids = torch.arange(12)[None] % 29
    for seed, (name, (kind, options)) in enumerate(MODELS.items()):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **options)).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim == 1 else 0.2))
        model.to({"f16": torch.float16, "bf16": torch.bfloat16}.get(name.rpartition("-")[2], torch.float32))
        model.save_pretrained(FOLDER / name, max_shard_size="5KB" if name == "llama-shards" else "1GB")
        again = AutoModelForCausalLM.from_pretrained(FOLDER / name, dtype=torch.float64).eval()
        with torch.no_grad():
            np.save(FOLDER / name / "logits.npy", again(ids).logits[0].numpy())


if __name__ == "__main__":
    main()
