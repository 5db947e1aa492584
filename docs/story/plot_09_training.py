r"""
9. Training
===========

The loop of page 8 was ten lines. This page is about doing it well: what the loss curves
say, when to stop, how large a step may be, and what the optimizers do. The
:class:`~axone.llm.Trainer` has all of it.
"""

# %%
# A language with a known limit
# -----------------------------
#
# A grammar makes the text: there are 72 different sentences. One rule spans the whole
# sentence: the animal at its end is the one at its beginning. The advantage of such a
# language is that we know the best possible loss. The text begins like this:

import re
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from axone.autograd.optim import SGD, AdamW, Muon, Optimizer, cosine
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
from axone.nn import Parameter
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
# Two parts of the text
# ---------------------
#
# A model that has memorized its text has a low loss and is worthless. So the text is
# split: the *training set* gives the gradients, and the *validation set*, here the last
# tenth, is only used to measure the loss now and then. This is called an *evaluation*.

tokenizer = CharTokenizer.train(text)
train_data, validation_data = TokenDataset.from_text(text, tokenizer).split(0.1)
inputs, targets = train_data.batch(0, 0, 16, 64)  # (B, T) = (16, 64) each
print("a batch:", inputs.shape, repr(tokenizer.decode(inputs[0])))

# %%
# A :class:`~axone.llm.Trainer` takes a model, the two parts, and a
# :class:`~axone.llm.TrainerConfig`. It prints nothing. A :class:`~axone.llm.Callback`
# receives each step and each evaluation; ours collects them.


class Curve(Callback):
    """Callback that collects losses, sizes of gradients and evaluations."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.evaluations: list[tuple[int, float]] = []

    def on_step(self, event: StepEvent) -> None:
        """Store the loss of a step, and the size of its gradient."""
        self.losses.append(event.loss)
        self.norms.append(event.gradient_norm)

    def on_evaluation(self, event: EvaluationEvent) -> None:
        """Store the loss on the validation set."""
        self.evaluations.append((event.step, event.loss))


def new_model() -> LanguageModel:
    """Return an untrained model: two blocks, 48 channels, four heads."""
    config = LanguageModelConfig(
        vocab_size=tokenizer.vocab_size,
        context_length=64,
        num_layers=2,
        num_heads=4,
        embed_dim=48,
    )
    return LanguageModel(config, rng=np.random.default_rng(0))


plan = TrainerConfig(
    steps=450,
    batch_size=16,
    context_length=64,
    learning_rate=6e-3,
    warmup_steps=30,
    eval_every=50,
    eval_sequences=50,
    workers=1,  # one thread
)
model, curve = new_model(), Curve()
end = Trainer(model, train_data, validation_data, plan, [curve]).fit()
print(f"validation loss {end.validation_loss:.3f} nats per character")

# %%
# Even a perfect model cannot predict the animal, the verb and the place; it can predict
# everything else. A sentence has :math:`\log 6 + \log 3 + \log 4` nats of surprise.
# Divided by its length, this is the lowest possible loss, the dashed line.

surprise = np.log(len(ANIMALS)) + np.log(len(VERBS)) + np.log(len(PLACES))
lowest = surprise / (len(text) / text.count("\n"))

fig, axis = plt.subplots(figsize=(7, 4), layout="constrained")
axis.semilogy(curve.losses, label="training", alpha=0.6)
axis.semilogy(*zip(*curve.evaluations), "o-", label="validation")
axis.axhline(lowest, color="black", linestyle="--", label=f"lowest: {lowest:.3f}")
axis.set(xlabel="step", ylabel="loss in nats per character")
axis.legend()
plt.show()

# %%
# Both curves fall together: the model has learned the language, not the text. They end
# above the dashed line, because a sequence of 64 characters often begins inside a
# sentence. Then the first animal is out of sight, and the one at the end is a guess.
# Sample lines (a temperature below 1 prefers probable characters, page 10), and let the
# grammar check them:

ANIMAL, VERB, PLACE = ("|".join(words) for words in (ANIMALS, VERBS, PLACES))
GRAMMAR = rf"the ({ANIMAL}) ({VERB}) the ({PLACE}), then the \1 comes home\."


def lines_of(model: LanguageModel) -> list[str]:
    """Return lines that a model generates after a line end."""
    pieces = TextGenerator(model, tokenizer).stream(
        "\n", max_new_tokens=900, temperature=0.7, rng=np.random.default_rng(0)
    )
    return "".join(pieces).split("\n")[:-1]


for name, each in [("untrained", new_model()), ("trained", model)]:
    lines = lines_of(each)
    allowed = sum(bool(re.fullmatch(GRAMMAR, line)) for line in lines)
    print(f"{name}: the grammar allows {allowed} of {len(lines)} lines")
print(*lines_of(model)[:3], sep="\n")

# %%
# Overfitting
# -----------
#
# Now with a text that is too short: eleven sentences to learn from. The model is the
# same; the learning rate stays at its peak, and evaluations are more frequent.

short = TokenDataset.from_text(text[:600], tokenizer)
held_out = TokenDataset.from_text(text[100_000:110_000], tokenizer)
overfitted, short_curve = new_model(), Curve()
short_plan = replace(plan, steps=300, eval_every=25, schedule="constant")
Trainer(overfitted, short, held_out, short_plan, [short_curve]).fit()

fig, axis = plt.subplots(figsize=(7, 4), layout="constrained")
axis.semilogy(short_curve.losses, label="training", alpha=0.6)
axis.semilogy(*zip(*short_curve.evaluations), "o-", label="validation")
axis.axhline(curve.evaluations[-1][1], color="black", ls=":", label="model above")
axis.set(xlabel="step", ylabel="loss in nats per character")
axis.legend()
plt.show()
best_step, best = min(short_curve.evaluations, key=lambda pair: pair[1])
print(f"lowest validation loss {best:.3f} at step {best_step}")

# %%
# The training loss falls below the dotted line, the validation loss of the good model,
# 0.13: this model knows by heart which sentence follows which. Its validation loss
# rises from its lowest point, 0.33, to 0.41 at the end. The gap between its two losses
# is *overfitting*. The remedies, in this order: more text; stop at the lowest validation loss
# (``early_stopping_patience``; a *checkpoint*, a saved copy of the model, keeps it); a
# smaller model; *dropout*, which sets random channels to zero in training, so that none
# can be relied on.
#
# Warm-up and schedule
# --------------------
#
# In the first training the learning rate was not constant. This is its *schedule*: it
# rises from almost zero in the *warm-up*, and then falls along a cosine, so that the
# last steps settle. Warm-up is needed because of the optimizer, AdamW (below): its steps
# have full size from the first one on, but the averages that choose their direction
# rest on a few gradients at first.

rates = [
    cosine(step, max_lr=6e-3, min_lr=6e-4, warmup_steps=30, total_steps=450)
    for step in range(450)
]
fig, axis = plt.subplots(figsize=(7, 3), layout="constrained")
axis.plot(rates)
axis.set(xlabel="step", ylabel="learning rate")
plt.show()

# %%
# Clipping
# --------
#
# The gradient is here, as on page 1, the list of all slopes. Its *norm* is its length
# (the normalization of page 8 is another thing): the root of the sum of the squares of
# all its numbers. Sometimes a batch has a gradient ten times as long as usual. With SGD
# the step is ten times as long, too. With AdamW the gradient distorts the averages of
# the next steps.
#
# *Clipping* shortens each gradient that is longer than a limit, ``max_grad_norm``, to
# that limit, and keeps its direction. Here are four trainings with a learning rate that
# is three times too large:

fig, (left, right) = plt.subplots(2, 1, figsize=(7, 6.5), layout="constrained")
for warmup, limit, style in [
    (30, 1.0, "-"),
    (0, 1.0, "--"),
    (30, None, "-."),
    (0, None, ":"),
]:
    wild, wild_curve = new_model(), Curve()
    wild_plan = replace(
        plan,
        steps=120,
        learning_rate=2e-2,
        warmup_steps=warmup,
        max_grad_norm=limit,
        eval_every=120,
    )
    Trainer(wild, train_data, validation_data, wild_plan, [wild_curve]).fit()
    with_warmup = "warm-up" if warmup else "no warm-up"
    label = f"{with_warmup}, {'clipping' if limit else 'no clipping'}"
    left.semilogy(wild_curve.losses, style, label=label)
    right.semilogy(wild_curve.norms, style)
left.set(xlabel="step", ylabel="loss")
left.legend()
right.axhline(1.0, color="black", lw=0.8)
right.set(xlabel="step", ylabel="norm of the gradient")
plt.show()

# %%
# The norms are measured before clipping; the line is the limit. With warm-up the loss
# ends at 0.21, with and without clipping. Without warm-up the first steps throw the
# model into a place from which it has to recover. There clipping helps: 0.84 with it,
# 1.22 without.
#
# Optimizers on a valley
# ----------------------
#
# Losses of networks are like long valleys: steep across, and almost flat along the
# floor. The simplest one has two parameters:
#
# .. math:: L = \frac{1}{2} (x^2 + 40 y^2)
#
# *SGD* moves against the gradient. The step that is right for the steep direction is
# far too small for the flat one; a larger one would jump across the valley.
#
# *AdamW*, the default of the Trainer, keeps two averages over recent steps for each
# parameter: of its gradients, :math:`m`, and of their squares, :math:`v`. The later a
# gradient, the more it counts. The step is the one divided by the root of the other
# (:math:`\epsilon` is tiny, and prevents a division by zero):
#
# .. math:: p \leftarrow p - \mathrm{lr} \cdot \frac{m}{\sqrt{v} + \epsilon}
#
# So each parameter moves by about the learning rate, however steep it is. (The W is
# *weight decay*: each step also makes the weights a little smaller, so that only
# weights that lower the loss stay large.)
#
# *Muon* treats a matrix as a whole. A step, as a matrix, makes some input vectors much
# longer than others. Muon replaces it by the nearest matrix that keeps the length of
# all: no direction dominates. For that, the valley's two parameters are the diagonal of
# a 2 x 2 matrix.

STEEPNESS = np.array([[1.0, 0.0], [0.0, 40.0]])  # (2, 2)


def valley_path(optimizer: type[Optimizer], **options: Any) -> np.ndarray:
    """Return the points (steps, 2) through which an optimizer moves."""
    w = Parameter(np.diag([-4.0, 0.9]))  # (2, 2)
    steps = optimizer([w], **options)
    path = []
    for _ in range(60):
        path.append(np.diag(w.data).copy())  # (2,)
        loss = (w * w * STEEPNESS).sum() / 2  # ()
        steps.zero_grad()
        loss.backward()
        steps.step()
    return np.array(path)  # (60, 2)


paths = {
    "SGD": valley_path(SGD, lr=0.045),
    "AdamW": valley_path(AdamW, lr=0.15, weight_decay=0.0),
    "Muon": valley_path(Muon, lr=0.1, momentum=0.5),
}
x, y = np.meshgrid(np.linspace(-4.5, 1.5, 80), np.linspace(-1.1, 1.1, 60))  # (60, 80)
fig, axes = plt.subplots(3, 1, figsize=(7, 7.5), layout="constrained", sharex=True)
for axis, (name, path) in zip(axes, paths.items()):
    axis.contour(x, y, (x**2 + 40 * y**2) / 2, levels=12, colors="0.8")
    axis.plot(*path.T, "o-", ms=3, lw=1, color="tab:red")
    axis.plot(0, 0, "k*", ms=12)
    axis.set(title=name, ylabel="y")
axes[-1].set_xlabel("x")
plt.show()
for name, path in paths.items():
    print(f"{name:6} after 60 steps at ({path[-1, 0]:5.2f}, {path[-1, 1]:5.2f})")

# %%
# SGD jumps from side to side at first and then creeps along the floor. AdamW and Muon
# move at the same speed in both directions. For matrices of a Transformer, Muon usually
# needs fewer steps than AdamW, so ``axone train`` uses it for new models. Embeddings,
# norms and biases, which are not such matrices, stay with AdamW. (``momentum`` says how
# much earlier gradients count.)
#
# Exercises
# ---------
#
# **1.** Training loss 0.5, validation loss 2.0: what would you do? And at 1.9 and 2.0,
# both still falling?
#
# .. dropdown:: Answer
#
#    The first is overfitting: more text, an earlier checkpoint, or dropout. The second is
#    healthy and unfinished: train longer, or take a larger model.
#
# **2.** The validation set has been used to choose between ten models. Is its loss for
# the winner an honest measure?
#
# .. dropdown:: Answer
#
#    Not quite: the winner was also lucky on this set. For an honest number, keep a third
#    part of the text, the *test set*, that was used for nothing.
#
# **3.** Set ``num_layers=1``. The validation loss ends at 0.147 instead of 0.130: why?
#
# .. dropdown:: Answer
#
#    The animal at the end is found in two moves: one layer marks the word after the first
#    "the", the next looks for that mark. One layer cannot do both.
#
# The model now has probabilities for the next character. There are many ways to make a
# text of them: :doc:`plot_10_inference`.
