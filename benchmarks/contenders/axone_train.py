"""Axone's own training loop, as a user runs it: `Trainer.fit`, timed from step to step."""

import numpy as np
from axone_parts import Laps, model_config, new_baton, training_plan
from baton import SPECK, held_memory, options

from axone.autograd import memory
from axone.llm import LanguageModel, TokenDataset, Trainer, next_token_loss
from axone.llm.runtime import settings


class Numbers:
    """Stand-in for a tokenizer: the data are random ids."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size


def main() -> None:
    o = options()
    rng = np.random.default_rng(0)
    ids = rng.integers(0, o["vocab"], 1_000_000).astype(np.uint16)
    train, validation = TokenDataset(ids, Numbers(o["vocab"])).split()
    if o.get("warm_up"):
        speck = {**o, **SPECK}
        batch = train.batch(0, 0, speck["batch"], speck["context"])
        next_token_loss(LanguageModel(model_config(speck), rng=rng), *batch).backward()
    if "memory" in o:  # imitate a C library that cannot be told to keep memory
        settings._mallopt = lambda: None
        if o["memory"] == "returned":
            memory._UNUSED = -1
    before = held_memory()
    model = LanguageModel(model_config(o), rng=rng)
    Trainer(model, train, validation, training_plan(o), [Laps(new_baton(before))]).fit()


main()
