"""Fine-tuning of a second, for the script that kills trainings."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from axone.llm import (
    Adapter,
    Callback,
    Conversations,
    LanguageModel,
    LanguageModelConfig,
    ModelBundle,
    Trainer,
    TrainerConfig,
    open_bundle,
)
from axone.tokenizer import BPETokenizer

TEMPLATE = (
    "{% for m in messages %}<|s|>{{ m.role }}\n{{ m.content }}<|e|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|s|>assistant\n{% endif %}"
)
COLOURS = ("red", "green", "blue", "black", "white")


def trainer(run: Path, steps: int, callbacks: Sequence[Callback] = (), *, overwrite: bool = False) -> Trainer:
    """Return a trainer of an adapter for a new run that saves every step; its base is beside the run."""
    base, chats = run.parent / "base", run.parent / "chats.jsonl"
    if not base.exists():
        tokenizer = BPETokenizer.train(" ".join(COLOURS) * 9, 270, special_tokens=("<|s|>", "<|e|>"))
        shape = LanguageModelConfig.llama(
            vocab_size=tokenizer.vocab_size, context_length=64, num_layers=1, num_heads=2, num_kv_heads=1, embed_dim=16,
            hidden_dim=32,
        )  # fmt: skip
        ModelBundle(LanguageModel(shape, rng=np.random.default_rng(0)), tokenizer, TEMPLATE).write(base)
        lines = [{"prompt": f"say {colour}" * (i + 1), "completion": colour} for i in range(3) for colour in COLOURS]
        chats.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    bundle = open_bundle(base)
    data = Conversations.from_jsonl(chats, bundle.tokenizer, bundle.chat_template, context_length=64)
    adapter = Adapter.add(bundle.model, 2, dropout=0.1, base_name=str(base), rng=np.random.default_rng(0))
    config = TrainerConfig(steps=steps, batch_size=4, context_length=64, eval_every=5, save_every=1, workers=2)
    parts = data.split(0.2)
    return Trainer(bundle.model, *parts, config, callbacks, run=run, overwrite=overwrite, adapter=adapter)
