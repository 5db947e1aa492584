"""
A tiny GPT
==========

Embeddings, attention, multi-layer perceptrons, stacked: a *Transformer*. Trained to guess the next character of a text,
it is a language model. This one is small enough to learn a small language in a few seconds.
"""

# %%
# A small language
# ----------------
#
# The text is made by a grammar: every sentence is one of a few hundred. One rule spans the whole sentence: who is named
# first comes home in the end.

import re

import matplotlib.pyplot as plt
import numpy as np

from axone.llm import (
    Callback,
    EvaluationEvent,
    LanguageModel,
    LanguageModelConfig,
    StepEvent,
    TextGenerator,
    TokenDataset,
    Trainer,
    TrainerConfig,
)
from axone.tokenizer import CharTokenizer

ANIMALS = ["fox", "owl", "hare", "mole", "otter", "wolf"]
PLACES = ["wood", "hill", "river", "field"]
VERBS = ["walks to", "looks for", "dreams of"]
rng = np.random.default_rng(0)


def sentence() -> str:
    """Return a sentence of the language."""
    who, what, where = (rng.choice(words) for words in (ANIMALS, VERBS, PLACES))
    return f"the {who} {what} the {where}, then the {who} comes home.\n"


text = "".join(sentence() for _ in range(4000))
print(text[:180])

# %%
# The model
# ---------
#
# The tokenizer gives each character an id. The model reads 64 of them and says for each position how probable each
# character is to come next.

tokenizer = CharTokenizer.train(text)
train, validation = TokenDataset.from_text(text, tokenizer).split(validation=0.1)
config = LanguageModelConfig(
    vocab_size=tokenizer.vocab_size,
    context_length=64,
    num_layers=2,
    num_heads=4,
    embed_dim=48,
)
model = LanguageModel(config, rng=np.random.default_rng(0))
print(f"{model.num_parameters():,} parameters learn from {len(train):,} characters")

# %%
# How well does it know the language? Let it write, and count the lines that the grammar allows.

WHO, WHAT, WHERE = ("|".join(words) for words in (ANIMALS, VERBS, PLACES))
GRAMMAR = rf"the ({WHO}) ({WHAT}) the ({WHERE}), then the \1 comes home\."
generator = TextGenerator(model, tokenizer)


def write() -> list[str]:
    """Return lines that the model writes after a line's end."""
    rng = np.random.default_rng(0)
    pieces = generator.stream("\n", max_new_tokens=1200, temperature=0.7, rng=rng)
    return "".join(pieces).split("\n")[:-1]


for line in write()[:3]:
    print(line)

# %%
# Noise. It has not read anything yet.
#
# Training
# --------
#
# The :class:`~axone.llm.Trainer` says nothing while it works; a :class:`~axone.llm.Callback` hears of each step.


class Curve(Callback):
    """The losses so far."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.evaluations: list[tuple[int, float]] = []

    def on_step(self, event: StepEvent) -> None:
        """Note the loss of a step."""
        self.losses.append(event.loss)

    def on_evaluation(self, event: EvaluationEvent) -> None:
        """Note the loss on text that was held out."""
        self.evaluations.append((event.step, event.loss))


curve = Curve()
plan = TrainerConfig(
    steps=600,
    batch_size=16,
    context_length=64,
    learning_rate=6e-3,
    warmup_steps=30,
    eval_every=100,
)
end = Trainer(model, train, validation, plan, [curve]).fit()
print(f"validation loss {end.validation_loss:.3f} nats a character")

# %%
# What it has learned
# -------------------

lines = write()
allowed = [bool(re.fullmatch(GRAMMAR, line)) for line in lines]
for line in lines[:5]:
    print(line)
print(f"\nthe grammar allows {sum(allowed)} of {len(lines)} lines")

# %%
# At its best a model cannot know which animal comes, which verb and which place; everything else follows. A sentence
# holds log(6) + log(3) + log(4) nats of news. Divided by its length that is the least loss possible, the dashed line.

news = np.log(len(ANIMALS)) + np.log(len(VERBS)) + np.log(len(PLACES))
length = len(text) / text.count("\n")
least = news / length

fig, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
axis.semilogy(curve.losses, label="training", alpha=0.6)
axis.semilogy(*zip(*curve.evaluations), "o-", label="held-out text")
axis.axhline(least, color="black", linestyle="--", label="least possible")
axis.set(xlabel="step", ylabel="loss in nats a character")
axis.legend()
plt.show()

# %%
# It has found the rule that spans the sentence, too. With ``num_layers=1`` it does not: to say who comes home, one layer
# has to mark what followed "the" before, so that the next can look it up.
#
# The same classes, a larger configuration and a real text are what ``apps/train.py`` wires together:
# :doc:`../guide/train`.
