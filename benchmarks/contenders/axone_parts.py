"""Shared parts of Axone's contenders: configurations of model and training, and a callback that times steps."""

from importlib.metadata import version
from typing import Any

import numpy as np
from baton import BETAS, CLIP, LEARNING_RATE, WEIGHT_DECAY, Baton

from axone.llm import Callback, LanguageModelConfig, StepEvent, TrainerConfig


def new_baton(memory_before: int | None = None) -> Baton:
    """Return the baton, with the versions of the libraries set."""
    baton = Baton(memory_before)
    baton.versions(axone=version("axone-llm"), numpy=np.__version__)
    return baton


def model_config(o: dict[str, Any]) -> LanguageModelConfig:
    """Return the configuration of the model."""
    return LanguageModelConfig(
        vocab_size=o["vocab"],
        context_length=o["context"],
        num_layers=o["layers"],
        num_heads=o["heads"],
        embed_dim=o["channels"],
        bias=o["bias"],
    )


def training_plan(o: dict[str, Any]) -> TrainerConfig:
    """Return a training configuration with the peers' optimizer and practically unlimited steps."""
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
    """Callback that ends a lap after each step."""

    def __init__(self, baton: Baton) -> None:
        self.baton = baton

    def on_step(self, event: StepEvent) -> None:  # noqa: ARG002 - the contract's name
        self.baton.lap()
