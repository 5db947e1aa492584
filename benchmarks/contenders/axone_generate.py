"""Axone's `generate`, or a prefill alone. A unit is a whole text, or a whole prompt."""

import numpy as np
from axone_parts import model_config, new_baton
from baton import options

from axone.llm import LanguageModel, generate


def main() -> None:
    o = options()
    rng = np.random.default_rng(0)
    model = LanguageModel(model_config(o), rng=rng).eval()
    prompt = rng.integers(0, o["vocab"], o["prompt"]).tolist()
    baton = new_baton()
    while True:
        made = list(generate(model, prompt, max_new_tokens=o["tokens"], temperature=o["temperature"], rng=rng))
        if len(made) != o["tokens"]:
            raise SystemExit("fewer tokens generated than requested")
        baton.lap()


main()
