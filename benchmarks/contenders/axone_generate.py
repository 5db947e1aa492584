"""Axone's `generate`, or the reading of a prompt alone. A unit is a whole text, or a whole prompt."""

from importlib.metadata import version

import numpy as np
from baton import Baton, options

from axone.llm import LanguageModel, LanguageModelConfig, generate


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
    model = LanguageModel(config, rng=rng).eval()
    prompt = rng.integers(0, o["vocab"], o["prompt"]).tolist()
    baton = Baton()
    baton.versions(axone=version("axone-llm"), numpy=np.__version__)
    while True:
        made = list(generate(model, prompt, max_new_tokens=o["tokens"], temperature=o["temperature"], rng=rng))
        if len(made) != o["tokens"]:
            raise SystemExit("fewer tokens than were asked for")
        baton.lap()


main()
