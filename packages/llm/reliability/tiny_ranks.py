"""Trainings of a few seconds on several ranks, as the tests and `rank_kills.py` start them.

    mpiexec -n 2 python -m mpi4py packages/llm/reliability/tiny_ranks.py FOLDER SCENARIO...

Each scenario runs in all ranks. Rank 0 writes the values that it returns as FOLDER/SCENARIO.json.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from tiny import TEXT, weights_sum

from axone.llm import Callback, LanguageModel, LanguageModelConfig, StepEvent, TokenDataset, Trainer, TrainerConfig
from axone.llm.distributed import Communicator, SingleProcess, world
from axone.tokenizer import CharTokenizer

CONFIG = TrainerConfig(
    steps=50,
    batch_size=8,
    context_length=16,
    sampling="epoch",
    eval_every=20,
    eval_sequences=8,
    save_every=4,
    workers=1,
)


class Losses(Callback):
    """Records the loss of every step, and calls a function after one of them."""

    def __init__(self, step: int | None = None, action: Callable[[], object] = lambda: None) -> None:
        self.losses: list[float] = []
        self._step, self._action = step, action

    def on_step(self, event: StepEvent) -> None:
        self.losses.append(event.loss)
        if event.step == self._step:
            self._action()


def trainer(
    config: TrainerConfig = CONFIG,
    callbacks: Sequence[Callback] = (),
    *,
    ranks: Communicator | None = None,
    run: Path | None = None,
    overwrite: bool = False,
    dropout: float = 0.0,
) -> Trainer:
    """Return a trainer of a small model, the same one in each rank."""
    dataset = TokenDataset.from_text(TEXT, CharTokenizer.train(TEXT))
    shape = LanguageModelConfig(
        vocab_size=dataset.tokenizer.vocab_size,
        context_length=16,
        num_layers=2,
        num_heads=2,
        embed_dim=16,
        dropout=dropout,
    )
    model = LanguageModel(shape, rng=np.random.default_rng(0))
    return Trainer(model, *dataset.split(), config, callbacks, communicator=ranks, run=run, overwrite=overwrite)


def train(ranks: Communicator, config: TrainerConfig = CONFIG, **options: Any) -> dict[str, Any]:
    """Train, and return losses and the sum of the weights."""
    losses = Losses()
    made = trainer(config, [losses], ranks=ranks, **options)
    end = made.fit()
    return {"losses": losses.losses, "weights": weights_sum(made.model), "validation_loss": end.validation_loss}


def main() -> None:
    """Run the scenarios of the command line."""
    import rank_scenarios

    folder, ranks = Path(sys.argv[1]), world()
    for name in sys.argv[2:]:
        found = getattr(rank_scenarios, name)(ranks, folder)
        if ranks.rank == 0:
            (folder / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")


def single(config: TrainerConfig = CONFIG, **changes: Any) -> dict[str, Any]:
    """Train in this process alone."""
    return train(SingleProcess(), replace(config, **changes))


if __name__ == "__main__":
    main()
