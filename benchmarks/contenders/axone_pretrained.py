"""Axone with a real model. A unit is a text, texts together, a prefill, or the first token of a chat turn."""

import itertools
from pathlib import Path

import numpy as np
from axone_parts import new_baton
from baton import options

from axone.llm import Chat, Draft, SamplingConfig, TextGenerator, generate, open_bundle, training_tokens


def main() -> None:
    """Run one kind of work again and again."""
    o = options()
    bundle = open_bundle(Path(o["model"]))
    unit = WORK[o["work"]](bundle, o)
    baton = new_baton()
    while True:
        unit()
        baton.lap()


def write(bundle, o):
    """Return a function that continues a prompt."""
    stop_ids = None if o.get("ends") else ()

    def unit() -> None:
        new = list(
            generate(
                bundle.model,
                o["ids"],
                max_new_tokens=o["tokens"],
                temperature=0,
                stop_ids=stop_ids,
                draft=o.get("draft"),
            )
        )
        if stop_ids == () and len(new) != o["tokens"]:
            raise SystemExit("fewer tokens generated than requested")

    return unit


def batch(bundle, o):
    """Return a function that continues several texts together."""
    generator = TextGenerator(bundle.model, bundle.tokenizer)
    return lambda: generator.complete(o["texts"], max_new_tokens=o["tokens"], temperature=0, stop_ids=())


def prompt(bundle, o):
    """Return a function that reads a prompt."""
    return lambda: list(generate(bundle.model, o["ids"], max_new_tokens=1, temperature=0, stop_ids=()))


def chat(bundle, o):
    """Return a function that begins an answer, to the first message or to the second."""
    ids = bundle.tokenizer.encode(o["text"])[: o["history"]]
    sampling = SamplingConfig(temperature=0)

    def begin(text: str) -> Chat:
        chat = Chat(bundle.model, bundle.tokenizer, bundle.chat_template, sampling=sampling, max_new_tokens=1)
        list(chat.send(text))
        return chat

    first = bundle.tokenizer.decode(ids)
    if o["turn"] == "first":
        return lambda: begin(first)
    chat = begin(first)
    history, numbers = list(chat.messages), itertools.count()

    def unit() -> None:
        chat.messages[:] = history
        list(
            chat.send(f"{next(numbers)}: who counts the boxes?")
        )  # another question each time, which is not in the cache

    return unit


def corpus(bundle, o):
    """Return a function that writes texts of a model that was trained on the corpus of the draft."""
    tokens = training_tokens(o["model"], bundle.tokenizer)
    draft = Draft(tokens) if o["draft"] else None
    begin = tokens.tokens[:32].tolist()

    def unit() -> None:
        for seed in range(o["texts"]):
            rng = np.random.default_rng(seed)
            list(generate(bundle.model, begin, max_new_tokens=o["tokens"], temperature=0.8, rng=rng, draft=draft))

    return unit


WORK = {"write": write, "batch": batch, "prompt": prompt, "chat": chat, "corpus": corpus}
main()
