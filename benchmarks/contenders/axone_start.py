"""Axone from the start of the process to the first step: a token file that was prepared, nanoGPT's small model."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
from baton import BETAS, CLIP, LEARNING_RATE, WEIGHT_DECAY, Baton, options

from axone.llm import Callback, LanguageModel, LanguageModelConfig, Step, TokenDataset, Trainer, TrainerConfig
from axone.tokenizer import load


class Laps(Callback):
    """Hands the baton back after the first step."""

    def __init__(self, baton: Baton) -> None:
        self.baton = baton

    def on_step(self, event: Step) -> None:  # noqa: ARG002 - the contract's name
        self.baton.lap()


def main() -> None:
    baton = Baton()
    baton.versions(axone=version("axone-llm"), numpy=np.__version__)
    o = options()
    folder = Path(o["corpus"])
    train, validation = TokenDataset.open(folder / "tokens.bin", load(folder / "tokenizer.json")).split()
    config = LanguageModelConfig(
        vocab_size=o["vocab"],
        context_length=o["context"],
        num_layers=o["layers"],
        num_heads=o["heads"],
        embed_dim=o["channels"],
        bias=o["bias"],
    )
    plan = TrainerConfig(
        steps=10_000,
        batch_size=o["batch"],
        context_length=o["context"],
        learning_rate=LEARNING_RATE,
        betas=BETAS,
        weight_decay=WEIGHT_DECAY,
        clip=CLIP,
        eval_every=10_000,
    )
    model = LanguageModel(config, rng=np.random.default_rng(0))
    Trainer(model, train, validation, plan, [Laps(baton)]).fit()


main()
