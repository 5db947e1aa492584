"""nanoGPT's sampling: the whole context through the model for every token, without a cache. A unit is a token."""

import torch
from baton import Baton, options
from torch.nn import functional as F  # noqa: N812 - its name in the field
from torch_model import GPT


@torch.no_grad()
def main() -> None:
    o = options()
    torch.set_num_threads(o["threads"])
    torch.manual_seed(0)
    model = GPT(o).eval()
    baton = Baton()
    baton.versions(torch=torch.__version__)
    while True:
        ids = torch.zeros((1, o["prompt"]), dtype=torch.long)
        for _ in range(o["tokens"]):
            logits = model(ids[:, -o["context"] :])[:, -1]
            token = torch.multinomial(F.softmax(logits, dim=-1), num_samples=1)
            ids = torch.cat((ids, token), dim=1)
        baton.lap()


main()
