"""Fine-tune with PyTorch and PEFT on given batches, and write seconds and peak memory as JSON.

    python peft_finetune.py FOLDER BATCHES.npz RANK [full]

The logits are computed at all positions, as these libraries do.
"""

import json
import resource
import sys
import time

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

IGNORED, THREADS = -100, 2


def main() -> None:
    folder, batches, rank, *way = sys.argv[1:]
    torch.set_num_threads(THREADS)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if not way:
        options = {"r": int(rank), "lora_alpha": 2 * int(rank), "target_modules": "all-linear"}
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)
    arrays = np.load(batches)
    seconds, losses = [], []
    for number in range(len(arrays.files) // 2):
        inputs, targets = (torch.from_numpy(arrays[f"{name}{number}"]) for name in ("inputs", "targets"))
        begin = time.perf_counter()
        logits = model(input_ids=inputs).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "losses": losses, "peak": peak}))


main()
