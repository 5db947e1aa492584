"""
A tiny GPT
==========

A *Transformer* is a stack of embeddings, attention and multi-layer perceptrons. Trained to predict the next character
of a text, it is a language model. This one is small enough to learn a small language in a few seconds.
"""

# %%
# A small language
# ----------------
#
# A grammar generates the text: there are 72 different sentences. One rule spans the whole sentence: the animal at its
# beginning is the animal at its end.

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
    animal, verb, place = (rng.choice(words) for words in (ANIMALS, VERBS, PLACES))
    return f"the {animal} {verb} the {place}, then the {animal} comes home.\n"


text = "".join(sentence() for _ in range(4000))
print(text[:180])

# %%
# The model
# ---------
#
# The tokenizer maps each character to an id. The model reads 64 ids and outputs, for each position, the probabilities
# of the next character.

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
# Before training: sample lines, and count those that the grammar allows.

ANIMAL, VERB, PLACE = ("|".join(words) for words in (ANIMALS, VERBS, PLACES))
GRAMMAR = rf"the ({ANIMAL}) ({VERB}) the ({PLACE}), then the \1 comes home\."
generator = TextGenerator(model, tokenizer)


def sample() -> list[str]:
    """Return lines that the model generates after a newline."""
    rng = np.random.default_rng(0)
    pieces = generator.stream("\n", max_new_tokens=1200, temperature=0.7, rng=rng)
    return "".join(pieces).split("\n")[:-1]


for line in sample()[:3]:
    print(line)

# %%
# The lines are noise, because the weights are random.
#
# Training
# --------
#
# The :class:`~axone.llm.Trainer` prints nothing. A :class:`~axone.llm.Callback` receives each step and each evaluation.


class Curve(Callback):
    """Callback that collects the losses."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.evaluations: list[tuple[int, float]] = []

    def on_step(self, event: StepEvent) -> None:
        """Store the loss of a step."""
        self.losses.append(event.loss)

    def on_evaluation(self, event: EvaluationEvent) -> None:
        """Store the loss on held-out text."""
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
print(f"validation loss {end.validation_loss:.3f} nats per character")

# %%
# Result
# ------

lines = sample()
allowed = [bool(re.fullmatch(GRAMMAR, line)) for line in lines]
for line in lines[:5]:
    print(line)
print(f"\nthe grammar allows {sum(allowed)} of {len(lines)} lines")

# %%
# Even a perfect model cannot predict the animal, the verb and the place; it can predict everything else. A sentence has
# log(6) + log(3) + log(4) nats of information. Divided by its length, this is the lowest possible loss, the dashed
# line.

information = np.log(len(ANIMALS)) + np.log(len(VERBS)) + np.log(len(PLACES))
length = len(text) / text.count("\n")
lowest = information / length

fig, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
axis.semilogy(curve.losses, label="training", alpha=0.6)
axis.semilogy(*zip(*curve.evaluations), "o-", label="held-out text")
axis.axhline(lowest, color="black", linestyle="--", label="lowest possible")
axis.set(xlabel="step", ylabel="loss in nats per character")
axis.legend()
plt.show()

# %%
# The model has also learned the rule that spans the sentence. With ``num_layers=1`` it does not: one layer has to mark
# the word after "the", so that the next layer can look it up.
#
# ``apps/train.py`` uses the same classes with a larger configuration and a real text: :doc:`../guide/train`.
