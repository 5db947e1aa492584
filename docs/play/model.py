"""The model of the page to play: training, and export to JavaScript with weights as float16 in base64."""

import json
from base64 import b64encode
from pathlib import Path

import numpy as np
from play.stories import text

from axone.llm import LanguageModel, LanguageModelConfig, TokenDataset, Trainer, TrainerConfig
from axone.tokenizer import BPETokenizer

EXAMPLES = {
    "Which color?": "Leo has a green drum. Leo sings in the school. The drum of Leo is",
    "She or he?": "Lucy has a black horse. Lucy waits in the forest. Now Lucy waits with",
    "Counting": "Ben has a yellow train. Ben reads in the park. Ben reads and counts: one, two,",
    "Two children": "Mia has a red ball. Tom has a blue kite. Mia runs in the park. Tom sings in the garden. The kite of Tom is",
    "An unknown name": "Zoe has a red kite. Zoe sings in the garden. The kite of Zoe is",
}
STEPS, CONTEXT = 1200, 64


def train() -> tuple[LanguageModel, BPETokenizer, float]:
    """Train the model, and return it with its tokenizer and its validation loss."""
    stories = text(6000, seed=0)
    tokenizer = BPETokenizer.train(stories, 512)
    train_data, validation_data = TokenDataset.from_text(stories, tokenizer).split(validation=0.05)
    config = LanguageModelConfig(
        vocab_size=tokenizer.vocab_size,
        context_length=CONTEXT,
        num_layers=3,
        num_heads=4,
        embed_dim=64,
        position="rotary",
    )
    model = LanguageModel(config, rng=np.random.default_rng(0))
    plan = TrainerConfig(
        steps=STEPS,
        batch_size=16,
        context_length=CONTEXT,
        optimizer="muon",  # as good after 600 steps as AdamW after 1,000
        learning_rate=5e-3,
        eval_every=STEPS,
    )
    end = Trainer(model, train_data, validation_data, plan).fit()
    return model.eval(), tokenizer, end.validation_loss or 0.0


def export(model: LanguageModel, tokenizer: BPETokenizer, path: Path, **notes: object) -> None:
    """Write a script that sets the variable ``AXONE_MODEL``; round the model's own weights to float16 as well."""
    config = model.config
    if (config.norm, config.position, config.mlp, config.tie_embeddings) != ("layer", "rotary", "gelu", True):
        raise ValueError(
            f"model ({config}) must have layer norms, rotary positions, GELU and tied embeddings: gpt.js computes no other"
        )
    parameters = {}
    for name, parameter in model.named_parameters():
        halves = parameter.data.astype("<f2")
        parameter.data[...] = halves
        parameters[name] = {"shape": parameter.shape, "data": b64encode(halves.tobytes()).decode()}
    names = "vocab_size", "context_length", "num_layers", "num_heads", "embed_dim", "norm_eps", "rope_theta"
    saved = {
        "config": {name: getattr(config, name) for name in names},
        "merges": tokenizer.merges,
        "parameters": parameters,
        **notes,
    }
    path.write_text(f"const AXONE_MODEL = {json.dumps(saved)};\n", encoding="utf-8")
