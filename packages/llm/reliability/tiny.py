"""Training of a second, which the other scripts kill, crash and damage hundreds of times."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from axone.llm import Callback, LanguageModel, LanguageModelConfig, TokenDataset, Trainer, TrainerConfig
from axone.tokenizer import CharTokenizer

TEXT = "the quick brown fox jumps over the lazy dog. pack my box with five dozen liquor jugs.\n" * 20


def trainer(run: Path, steps: int, callbacks: Sequence[Callback] = (), *, overwrite: bool = False) -> Trainer:
    """Return a trainer for a new run that saves every step."""
    dataset = TokenDataset.from_text(TEXT, CharTokenizer.train(TEXT))
    shape = LanguageModelConfig(
        vocab_size=dataset.tokenizer.vocab_size,
        context_length=16,
        num_layers=1,
        num_heads=2,
        embed_dim=16,
        dropout=0.1,
    )
    config = TrainerConfig(
        steps=steps, batch_size=2, context_length=16, eval_every=5, eval_sequences=2, save_every=1, workers=2
    )
    model = LanguageModel(shape, rng=np.random.default_rng(0))
    return Trainer(model, *dataset.split(), config, callbacks, run=run, overwrite=overwrite)


def weights_sum(model: LanguageModel) -> str:
    """Return the SHA-256 sum of a model's weights."""
    total = hashlib.sha256()
    for name, array in model.state_dict().items():
        total.update(name.encode() + array.tobytes())
    return total.hexdigest()
