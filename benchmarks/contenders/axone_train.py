"""Axone's own training loop, as a user runs it: `Trainer.fit`, timed from step to step."""

from importlib.metadata import version

import numpy as np
from baton import BETAS, CLIP, LEARNING_RATE, WEIGHT_DECAY, Baton, options

from axone.llm import Callback, LanguageModel, LanguageModelConfig, Step, TokenDataset, Trainer, TrainerConfig


class Numbers:
    """A tokenizer of nothing: the race is run on random ids."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size


class Laps(Callback):
    """Hands the baton on after each step."""

    def __init__(self) -> None:
        self.baton = Baton()
        self.baton.versions(axone=version("axone-llm"), numpy=np.__version__)

    def on_step(self, event: Step) -> None:  # noqa: ARG002 - the contract's name
        self.baton.lap()


def main() -> None:
    o = options()
    config = LanguageModelConfig(
        vocab_size=o["vocab"],
        context_length=o["context"],
        num_layers=o["layers"],
        num_heads=o["heads"],
        embed_dim=o["channels"],
        bias=o["bias"],
    )
    rng = np.random.default_rng(0)
    ids = rng.integers(0, o["vocab"], 1_000_000).astype(np.uint16)
    train, validation = TokenDataset(ids, Numbers(o["vocab"])).split()
    plan = TrainerConfig(
        steps=1 << 30,
        batch_size=o["batch"],
        context_length=o["context"],
        learning_rate=LEARNING_RATE,
        betas=BETAS,
        weight_decay=WEIGHT_DECAY,
        clip=CLIP,
        eval_every=1 << 30,
        workers=o.get("workers"),
    )
    Trainer(LanguageModel(config, rng=rng), train, validation, plan, [Laps()]).fit()


main()
