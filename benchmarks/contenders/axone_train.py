"""Axone's own training loop, as a user runs it: `Trainer.fit`, timed from step to step."""

import numpy as np
from axone_parts import Laps, model_config, new_baton, training_plan
from baton import options

from axone.llm import LanguageModel, TokenDataset, Trainer


class Numbers:
    """A tokenizer of nothing: the race is run on random ids."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size


def main() -> None:
    o = options()
    rng = np.random.default_rng(0)
    ids = rng.integers(0, o["vocab"], 1_000_000).astype(np.uint16)
    train, validation = TokenDataset(ids, Numbers(o["vocab"])).split()
    model = LanguageModel(model_config(o), rng=rng)
    Trainer(model, train, validation, training_plan(o), [Laps(new_baton())]).fit()


main()
