"""PyTorch from the start of the process to the first step: the same token file, model and step."""

from pathlib import Path

import numpy as np
import torch
from baton import BETAS, CLIP, EPS, LEARNING_RATE, WEIGHT_DECAY, Baton, options
from torch_model import GPT


def main() -> None:
    baton = Baton()
    baton.versions(torch=torch.__version__)
    o = options()
    torch.set_num_threads(o["threads"])
    T = o["context"]
    data = np.memmap(Path(o["corpus"]) / "tokens.bin", np.uint16, mode="r")
    model = GPT(o)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY, fused=True
    )
    while True:
        starts = torch.randint(len(data) - T, (o["batch"],))
        x = torch.stack([torch.from_numpy(data[i : i + T].astype(np.int64)) for i in starts])
        y = torch.stack([torch.from_numpy(data[i + 1 : i + 1 + T].astype(np.int64)) for i in starts])
        loss = model(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        baton.lap()


main()
