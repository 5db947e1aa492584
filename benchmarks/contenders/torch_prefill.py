"""Prefill in PyTorch: the model once over all positions, and the logits of the last."""

import torch
from baton import Baton, options
from torch_model import GPT


@torch.no_grad()
def main() -> None:
    o = options()
    torch.set_num_threads(o["threads"])
    torch.manual_seed(0)
    model = GPT(o).eval()
    prompt = torch.randint(0, o["vocab"], (1, o["prompt"]))
    baton = Baton()
    baton.versions(torch=torch.__version__)
    while True:
        model(prompt)
        baton.lap()


main()
