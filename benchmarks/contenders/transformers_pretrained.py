"""Hugging Face transformers with a real model in float32. A unit is a text, texts together, or a prefill."""

import torch
import transformers
from baton import Baton, options
from transformers import AutoModelForCausalLM


@torch.no_grad()
def main() -> None:
    """Run one kind of work again and again."""
    o = options()
    torch.set_num_threads(o["threads"])
    model = AutoModelForCausalLM.from_pretrained(o["model"], dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    rows = o["ids"] if o["work"] == "batch" else [o["ids"]]
    width = max(map(len, rows))
    prompt = torch.tensor([[0] * (width - len(row)) + row for row in rows])
    attend = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    baton = Baton()
    baton.versions(torch=torch.__version__, transformers=transformers.__version__)
    while True:
        if o["work"] == "prompt":
            model(prompt, use_cache=True, logits_to_keep=1)
        else:
            made = model.generate(
                prompt, attention_mask=attend, max_new_tokens=o["tokens"], do_sample=False, use_cache=True
            )
            if made.shape[1] != width + o["tokens"]:
                raise SystemExit("fewer tokens generated than requested")
        baton.lap()


main()
