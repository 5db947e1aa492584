"""Axone from the start of the process to the first step: a prepared token file, nanoGPT's small model."""

from pathlib import Path

import numpy as np
from axone_parts import Laps, model_config, new_baton, training_plan
from baton import options

from axone.llm import LanguageModel, TokenDataset, Trainer
from axone.tokenizer import load


def main() -> None:
    baton = new_baton()
    o = options()
    folder = Path(o["corpus"])
    train, validation = TokenDataset.open(folder / "tokens.bin", load(folder / "tokenizer.json")).split()
    model = LanguageModel(model_config(o), rng=np.random.default_rng(0))
    Trainer(model, train, validation, training_plan(o), [Laps(baton)]).fit()


main()
