"""A training of Axone's by a preset with changes, by steps or by time; a line per event."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from axone.llm import Callback, LanguageModel, TokenDataset, Trainer, preset
from axone.tokenizer import BPETokenizer, CharTokenizer

ESTIMATED_STEPS = 1000  # of the training that is estimated: room for any warm-up


class Events(Callback):
    """Prints a line at each evaluation: step, seconds since the process was started, and seconds of the steps alone."""

    def __init__(self, began: float) -> None:
        self._began, self._stepping, self._evaluating = began, 0.0, 0.0
        self._after_step = time.time()

    def on_step(self, event) -> None:
        """Count the seconds of a step."""
        self._stepping += event.seconds
        self._after_step = time.time()

    def on_evaluation(self, event) -> None:
        """Print the line, and leave the evaluation out of the seconds."""
        seconds = self._after_step - self._began - self._evaluating
        line = {"step": event.step, "seconds": seconds, "stepping": self._stepping, "loss": event.loss}
        print(json.dumps({**line, "bits_per_byte": event.bits_per_byte}), flush=True)
        self._evaluating += time.time() - self._after_step


def main() -> None:
    o = json.loads(sys.argv[1])
    text = Path(o["data"]).read_text(encoding="utf-8")
    cut, plan = int(0.9 * len(text)), preset(o["preset"])
    if "subwords" in o:
        tokenizer, plan = BPETokenizer.train(text[:cut], o["subwords"]), plan.for_subwords()
    else:
        tokenizer = CharTokenizer.train(text)
    train, validation = (TokenDataset.from_text(part, tokenizer) for part in (text[:cut], text[cut:]))
    plan = replace(plan, model={**plan.model, **o["model"]})
    shape = plan.model_config(tokenizer.vocab_size)
    model = LanguageModel(shape, rng=np.random.default_rng(o["seed"]))

    def trainer(steps: int) -> Trainer:
        changes = {"steps": steps, "eval_sequences": None, "seed": o["seed"], "workers": o["threads"], **o["trainer"]}
        every = min(o.get("every") or steps, steps)
        config = plan.trainer_config(shape.context_length, **{**changes, "steps": steps, "eval_every": every})
        return Trainer(model, train, validation, config, [Events(o["began"])])

    steps = o.get("steps")
    if steps is None:  # of a run by time: its pilot steps count
        step_seconds = trainer(ESTIMATED_STEPS).estimate().seconds_per_step
        left = o["budget"] - (time.time() - o["began"])
        steps = max(1, int(o["safety"] * left / step_seconds))
    trainer(steps).fit()


main()
