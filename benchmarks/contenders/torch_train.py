"""A training loop in PyTorch, eager or compiled, with its fused AdamW."""

import numpy as np
import torch
from baton import BETAS, CLIP, EPS, LEARNING_RATE, SPECK, WEIGHT_DECAY, Baton, held_memory, options
from torch_model import GPT


def training(o, data, rng):
    """Return a function that makes a step."""
    model = GPT(o)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS, eps=EPS, fused=True)
    loss_of = torch.compile(model) if o.get("compile") else model

    def batch():
        T = o["context"]
        starts = rng.integers(0, len(data) - T, o["batch"])
        x = torch.stack([torch.from_numpy(data[i : i + T].astype(np.int64)) for i in starts])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + T].astype(np.int64)) for i in starts])
        return x, y

    def step():
        loss = loss_of(*batch())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()

    return step


def main() -> None:
    o = options()
    torch.set_num_threads(o.get("threads", 2))
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    data = rng.integers(0, o["vocab"], 1_000_000).astype(np.uint16)
    if o.get("warm_up"):
        training({**o, **SPECK}, data, rng)()
    before = held_memory()
    step = training(o, data, rng)
    baton = Baton(before)
    baton.versions(torch=torch.__version__)
    while True:
        step()
        baton.lap()


main()
