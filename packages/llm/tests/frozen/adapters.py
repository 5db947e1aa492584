"""Makes adapters/: adapters of the small models of families/, as PEFT saves them, and the logits of both together.

    python adapters.py        (peft 0.21.2, transformers 5.24.0, torch 2.13.0)

Each folder holds what PEFT's `save_pretrained` wrote for the family that begins its name, and ``logits.npy``: of the ids
``arange(12) % 29``, computed in float64.
"""

import shutil
from pathlib import Path

import numpy as np
import torch  # type: ignore[import-not-found]  # a peer, which our environment does not have
from peft import LoraConfig, get_peft_model  # type: ignore[import-not-found]  # likewise
from transformers import AutoModelForCausalLM  # type: ignore[import-not-found]  # likewise

FOLDER = Path(__file__).with_suffix("")
FAMILIES = FOLDER.with_name("families")
ADAPTERS: dict[str, dict[str, object]] = {
    "llama": {"r": 2, "lora_alpha": 6, "target_modules": "all-linear"},
    "llama.attention": {"r": 3, "lora_alpha": 4, "use_rslora": True, "target_modules": ["q_proj", "v_proj"]},
    "llama-untied-bias": {"r": 2, "lora_alpha": 2, "target_modules": ["gate_proj", "o_proj", "k_proj"]},
    "gpt2": {"r": 2, "lora_alpha": 5, "target_modules": ["c_attn", "c_fc", "c_proj"], "fan_in_fan_out": True},
    "qwen3": {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "lora_dropout": 0.1},
}


def main() -> None:
    """Write the folders."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    ids = torch.arange(12)[None] % 29
    for seed, (name, options) in enumerate(ADAPTERS.items()):
        torch.manual_seed(seed)
        base = AutoModelForCausalLM.from_pretrained(FAMILIES / name.partition(".")[0], dtype=torch.float64)
        model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **options)).eval()
        with torch.no_grad():
            for path, parameter in model.named_parameters():
                if "lora_" in path:
                    parameter.copy_(torch.randn_like(parameter).float() * 0.3)
        model.peft_config["default"].base_model_name_or_path = name
        model.save_pretrained(FOLDER / name)
        (FOLDER / name / "README.md").unlink(missing_ok=True)
        with torch.no_grad():
            np.save(FOLDER / name / "logits.npy", model(ids).logits[0].numpy())


if __name__ == "__main__":
    main()
