"""Runs of two steps and token files of one text, for the tests of folders and files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from axone.llm import (
    Callback,
    LanguageModel,
    LanguageModelConfig,
    LossPlot,
    MetricsFile,
    StepEvent,
    TokenDataset,
    Trainer,
    TrainerConfig,
)
from axone.tokenizer import CharTokenizer

TEXT = "to be, or not to be, that is the question. " * 20
TOKENIZER = CharTokenizer.train(TEXT + "\n")
CONFIG = TrainerConfig(steps=2, batch_size=2, context_length=8, workers=1, eval_every=1, eval_sequences=2)
SHAPE = LanguageModelConfig(vocab_size=TOKENIZER.vocab_size, context_length=8, num_layers=1, num_heads=1, embed_dim=4)


def dataset(path: Path | None = None, text: str = TEXT) -> TokenDataset:
    """Return the ids of a text, in a token file if there is a path."""
    return TokenDataset.from_text(text, TOKENIZER, path)


def trainer(run: Path, *callbacks: Callback, data: TokenDataset | None = None, overwrite: bool = False) -> Trainer:
    """Return a trainer of a new run."""
    model = LanguageModel(SHAPE, rng=np.random.default_rng(0))
    return Trainer(model, *(data or dataset()).split(), CONFIG, callbacks, run=run, overwrite=overwrite)


def names(folder: Path) -> list[str]:
    """Return the names in a folder, sorted."""
    return sorted(path.name for path in folder.iterdir())


class At(Callback):
    """Calls a function after a step."""

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self._step, self._action = step, action

    def on_step(self, event: StepEvent) -> None:
        if event.step == self._step:
            self._action()


def resume(folder: Path) -> None:
    """Resume a run with the callbacks that write files."""
    resumed = Trainer.resume(folder, [MetricsFile(folder / "metrics.jsonl"), LossPlot(folder / "loss.png")])
    resumed.fit()
