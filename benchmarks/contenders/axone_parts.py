"""What Axone's contenders share: the model and the plan that a race asks for, and the laps."""

from importlib.metadata import version
from typing import Any

import numpy as np
from baton import BETAS, CLIP, LEARNING_RATE, WEIGHT_DECAY, Baton

from axone.llm import Callback, LanguageModelConfig, Step, TrainerConfig


def new_baton(memory_before: int | None = None) -> Baton:
    """Take the baton, and say what runs."""
    baton = Baton(memory_before)
    baton.versions(axone=version("axone-llm"), numpy=np.__version__)
    return baton


def model_config(o: dict[str, Any]) -> LanguageModelConfig:
    """Return the model of the race."""
    return LanguageModelConfig(
        vocab_size=o["vocab"],
        context_length=o["context"],
        num_layers=o["layers"],
        num_heads=o["heads"],
        embed_dim=o["channels"],
        bias=o["bias"],
    )


def training_plan(o: dict[str, Any]) -> TrainerConfig:
    """Return a plan with the peers' optimizer, and no end that would be reached."""
    return TrainerConfig(
        steps=1 << 30,
        batch_size=o["batch"],
        context_length=o["context"],
        learning_rate=LEARNING_RATE,
        betas=BETAS,
        weight_decay=WEIGHT_DECAY,
        max_grad_norm=CLIP,
        eval_every=1 << 30,
        workers=o.get("workers"),
    )


class Laps(Callback):
    """Hands the baton on after each step."""

    def __init__(self, baton: Baton) -> None:
        self.baton = baton

    def on_step(self, event: Step) -> None:  # noqa: ARG002 - the contract's name
        self.baton.lap()
