r"""
5. Characters and byte pairs
============================

A network computes with numbers, so a text has to become numbers and back. The units that
get a number are *tokens*, the list of all tokens is the *vocabulary*, and the number of a
token is its *id*. The program that converts is the *tokenizer*.
"""

# %%
# One sentence, three ways
# ------------------------
#
# The same sentence as characters, as the tokens of a small vocabulary, and as those of
# a larger one. Each box is one token.

import argparse
from collections import Counter
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from axone.tokenizer import BPETokenizer, CharTokenizer

SENTENCE = "the cat sat on the mat, the rat sat on the hat"


# sphinx_gallery_start_ignore
def show_tokens(axis: Axes, pieces: list[str], title: str) -> None:
    """Draw a row of tokens as boxes."""
    left = 0.0
    for number, piece in enumerate(pieces):
        color = f"C{number % 4}"
        width = len(piece)
        box = Rectangle((left + 0.06, 0), width - 0.12, 1, color=color, alpha=0.35)
        axis.add_patch(box)
        visible = piece.replace(" ", "␣")
        axis.text(
            left + width / 2,
            0.5,
            visible,
            ha="center",
            va="center",
            fontsize=9,
        )
        left += width
    axis.set(xlim=(0, left), ylim=(0, 1), title=title)
    axis.axis("off")


fig, axes = plt.subplots(3, 1, figsize=(7, 3), layout="constrained")
for axis, size in zip(axes, (0, 262, 270)):
    pieces = list(SENTENCE)
    if size:
        trained = BPETokenizer.train(SENTENCE * 3, size)
        pieces = [trained.decode([id]) for id in trained.encode(SENTENCE)]
    title = f"{len(pieces)} tokens" if size else f"{len(pieces)} characters"
    show_tokens(axis, pieces, title)
plt.show()
# sphinx_gallery_end_ignore

# %%
# Characters
# ----------
#
# The simplest tokenizer has one token per character. It collects the characters of a
# text, sorts them, and numbers them.

characters = sorted(set(SENTENCE))
id_of = {character: id for id, character in enumerate(characters)}
ids = [id_of[character] for character in SENTENCE]
print(characters)
print("the cat ->", ids[:7])

# %%
# :class:`~axone.tokenizer.CharTokenizer` does the same, and back:

tokenizer = CharTokenizer.train(SENTENCE)
print(tokenizer.encode("the cat"), tokenizer.vocab_size)
print(tokenizer.decode(tokenizer.encode("the cat")))

# %%
# It has two weaknesses. A character that was not in the text has no id. And a text has
# as many tokens as characters, while a model can read only a limited number of tokens
# at once.
#
# The other extreme, one token per word, makes texts short, but there are too many
# different words, and a misspelt one has no id.
#
# Bytes
# -----
#
# Every text is stored as *bytes*, numbers from 0 to 255, by a standard named UTF-8. An
# English letter is one byte, an emoji is four. With the 256 bytes as vocabulary, any
# text has ids:

for word in ("cat", "é", "🐈"):
    print(word, list(word.encode("utf-8")))

# %%
# Merging pairs
# -------------
#
# *Byte-pair encoding* (BPE) begins with bytes and makes frequent sequences shorter. It
# repeats one rule: **find the pair of neighbours that occurs most often, and give this
# pair a new id.** Here it is by hand. Count the pairs of the sentence:

tokens = list(SENTENCE.encode("utf-8"))
text_of = {id: bytes([id]) for id in range(256)}


def count_pairs(tokens: list[int]) -> Counter[tuple[int, int]]:
    """Return how often each pair of neighbours occurs."""
    return Counter(pairwise(tokens))


for (left, right), count in count_pairs(tokens).most_common(5):
    print(f"{text_of[left] + text_of[right]!r}: {count} times")

# %%
# ``at`` occurs most often: cat, sat, mat, rat, sat, hat. It becomes token 256. Now
# replace it everywhere, count again, and so on. Of equally frequent pairs, take the one
# with the smallest ids, so that the result is always the same.


def merge(tokens: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """Return the tokens with each occurrence of a pair replaced by a new id."""
    merged, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i : i + 2]) == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(tokens[i])
            i += 1
    return merged


merges = []
print("new id  pair             count  tokens left")
for new in range(256, 266):
    counts = count_pairs(tokens)
    pair = min(counts, key=lambda pair: (-counts[pair], pair))
    tokens = merge(tokens, pair, new)
    text_of[new] = text_of[pair[0]] + text_of[pair[1]]
    merges.append(pair)
    shown = f"{text_of[pair[0]]!r} {text_of[pair[1]]!r}"
    print(f"{new:6}  {shown:16} {counts[pair]:5}  {len(tokens):6}")

# %%
# 46 bytes have become 13 tokens, and some of the tokens contain a word that we know,
# such as ``the␣`` and ``␣the␣`` (␣ is a space). The rule knows no language: it only
# counts.
#
# The library
# -----------
#
# :class:`~axone.tokenizer.BPETokenizer` learns the same merges. Its way of counting is
# faster: it trains on a megabyte in a fraction of a second.

library = BPETokenizer.train(SENTENCE, vocab_size=266, pattern=None)
print("the same merges:", library.merges == merges)
print("the same tokens:", library.encode(SENTENCE) == tokens)

# %%
# To encode a new text, apply the merges in the order in which they were learned. Parts
# that were never merged stay bytes, so nothing is unknown:

for text in ("the cat sat", "that rat", "ein Hut", "🐈"):
    ids = library.encode(text)
    print(f"{text!r}:", [library.decode_bytes([id]) for id in ids])

# %%
# In practice a text is first cut into words by a regular expression, the *pattern*, so
# that no token contains the end of one word and the beginning of the next. ``"gpt2"``
# is the default: a space belongs to the word after it. Compare with the tokens above,
# which cross the spaces:

words = BPETokenizer.train(SENTENCE, vocab_size=266)
print([words.decode([id]) for id in words.encode("the cat sat on the mat")])

# %%
# A vocabulary may also have *special tokens* that do not come from text, for example
# ``<|endoftext|>`` between two documents.
#
# Size of the vocabulary
# ----------------------
#
# More merges make texts shorter. The first merges save most. Here the text is the
# source of a module of Python:

source = Path(argparse.__file__).read_text(encoding="utf-8")
sizes = [256, 320, 384, 512, 768, 1024, 2048, 4096]
lengths = [len(BPETokenizer.train(source, size).encode(source)) for size in sizes]

fig, axis = plt.subplots(figsize=(7, 3.8), layout="constrained")
axis.plot(sizes, [len(source) / length for length in lengths], "o-")
axis.set(xlabel="vocabulary", ylabel="characters per token", xscale="log")
axis.set_xticks(sizes[::2], [str(size) for size in sizes[::2]], minor=False)
plt.show()

# %%
# More is not always better. Each token needs parameters of its own in the model, and a
# token that occurs twice in the text can hardly be learned. GPT-2 has 50,257 tokens,
# and learned from 40 gigabytes. For a few megabytes, 512 to 4,096 tokens are good: the
# text then has about a million tokens, and each token occurs hundreds of times.
#
# Exercises
# ---------
#
# **1.** Do the first two merges of ``abababcab`` on paper.
#
# .. dropdown:: Answer
#
#    The pairs are ab (4 times), ba (2), bc and ca (1 each). First ``ab`` becomes X:
#    XXXcX. Now XX occurs twice (overlapping), Xc and cX once: ``XX`` becomes Y: YXcX.
#
# **2.** How many tokens has ``"🐈🐈"`` with the tokenizer of the sentence?
#
# .. dropdown:: Answer
#
#    Eight: four bytes each, and none of their pairs occurred in the sentence.
#
# **3.** Why can a BPE tokenizer not lose information, while one that changes all
# letters to lower case can?
#
# .. dropdown:: Answer
#
#    Every token stands for its bytes exactly. Decoding puts the bytes one after the other,
#    and that is the text. Lower case cannot be undone.
#
# A text is now a list of ids. But ids are only names: 257 is not more than 256. The
# next page gives each of them a meaning that can be computed with:
# :doc:`plot_06_embeddings`.
