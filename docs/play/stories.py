"""Text for the model of the page to play: short stories of a grammar, whose rules attention can learn.

A name determines the pronoun, the toy, its color, and what the child does. A place that was named is named again. Numbers
are counted up.
"""

import numpy as np

SHE = ["Mia", "Ada", "Eva", "Lucy"]
HE = ["Tom", "Ben", "Leo", "Max"]
COLORS = ["red", "blue", "green", "white", "black", "yellow"]
TOYS = ["ball", "kite", "boat", "drum", "horse", "train"]
PLACES = ["park", "garden", "house", "school", "forest"]
VERBS = ["sings", "runs", "reads", "sleeps", "dances", "waits"]
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight"]


def story(rng: np.random.Generator) -> str:
    """Return a story of one or two children with a toy each, whose later sentences follow from the first ones."""
    children = int(rng.integers(1, 3))
    names, toys, colors, places, verbs = (
        [str(word) for word in rng.permutation(words)[:children]] for words in (SHE + HE, TOYS, COLORS, PLACES, VERBS)
    )
    sentences = [f"{name} has a {color} {toy}." for name, color, toy in zip(names, colors, toys)]
    sentences += [f"{name} {verb} in the {place}." for name, verb, place in zip(names, verbs, places)]
    for kind in rng.permutation(6)[:3]:
        who = int(rng.integers(children))
        name, color, toy, place, verb = names[who], colors[who], toys[who], places[who], verbs[who]
        she, her = ("She", "her") if name in SHE else ("He", "his")
        numbers = ", ".join(NUMBERS[: int(rng.integers(3, 7))])
        choices = [
            f"Now {name} {verb} with {her} {color} {toy}.",
            f"The {toy} of {name} is {color}.",
            f"In the {place}, {name} {verb} with the {color} {toy}.",
            f'{name} {verb} and says: "My {toy} is {color}!"',
            f"{name} {verb} and counts: {numbers}.",
            f"{name} {verb} in the {place}. {she} likes {her} {toy}.",
        ]
        sentences.append(choices[kind])
    return " ".join(sentences) + "\n"


def text(stories: int, seed: int) -> str:
    """Return many stories, one per line."""
    rng = np.random.default_rng(seed)
    return "".join(story(rng) for _ in range(stories))
