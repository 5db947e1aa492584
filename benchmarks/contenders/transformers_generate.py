"""Hugging Face transformers: `generate` with its cache, on a GPT-2 of random weights; or a prefill alone."""

import torch
import transformers
from baton import Baton, options
from transformers import GPT2Config, GPT2LMHeadModel


@torch.no_grad()
def main() -> None:
    o = options()
    torch.set_num_threads(o["threads"])
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=o["vocab"],
        n_positions=o["context"],
        n_embd=o["channels"],
        n_layer=o["layers"],
        n_head=o["heads"],
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2LMHeadModel(config).eval()
    prompt = torch.randint(0, o["vocab"], (1, o["prompt"]))
    baton = Baton()
    baton.versions(torch=torch.__version__, transformers=transformers.__version__)
    while True:
        if o["tokens"] == 1:
            model(prompt, use_cache=True, logits_to_keep=1)
        else:
            attend = torch.ones_like(prompt)
            made = model.generate(
                prompt, attention_mask=attend, max_new_tokens=o["tokens"], do_sample=False, use_cache=True
            )
            if made.shape[1] != o["prompt"] + o["tokens"]:
                raise SystemExit("fewer tokens generated than requested")
        baton.lap()


main()
