"""nanoGPT's training on a CPU, written in PyTorch: its batches, AdamW, clipping and cosine schedule; a line per event."""

import json
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch_model import GPT

LEARNING_RATE, LAST_RATE, WARMUP = 1e-3, 1e-4, 100
BETAS, WEIGHT_DECAY, CLIP = (0.9, 0.99), 0.1, 1.0
PILOT, WARM = 200, 20  # steps of a run by time before their number is known, and the first of them, which are slower
SHAPE = {"layers": 4, "heads": 4, "channels": 128, "context": 64, "bias": False}
BATCH = 12


def characters(train, validation):
    """Return the ids of a text's parts, and the vocabulary size."""
    number = {character: i for i, character in enumerate(sorted(set(train + validation)))}
    return [np.array([number[character] for character in part], np.int64) for part in (train, validation)], len(number)


def subwords(train, validation, vocab):
    """Return the same in byte pairs, learned from the training part by Hugging Face's tokenizers."""
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator([train], vocab_size=vocab, show_progress=False)
    return [np.array(tokenizer.encode(part).ids, np.int64) for part in (train, validation)], tokenizer.get_vocab_size()


def rate(step, steps):
    """Return nanoGPT's learning rate of a step."""
    if step < WARMUP:
        return LEARNING_RATE * (step + 1) / (WARMUP + 1)
    share = (step - WARMUP) / max(steps - WARMUP, 1)
    return LAST_RATE + 0.5 * (1 + math.cos(math.pi * min(share, 1.0))) * (LEARNING_RATE - LAST_RATE)


def mean_loss(model, ids, context):
    """Return the loss over all whole sequences of a text, one after the other."""
    starts = np.arange((len(ids) - 1) // context) * context
    total = 0.0
    with torch.no_grad():
        for part in np.array_split(starts, max(len(starts) // 64, 1)):
            at = part[:, None] + np.arange(context)
            total += model(torch.from_numpy(ids[at]), torch.from_numpy(ids[at + 1])).item() * len(part)
    return total / len(starts)


def main() -> None:
    o = json.loads(sys.argv[1])
    torch.set_num_threads(o["threads"])
    torch.manual_seed(o["seed"])
    rng = np.random.default_rng(o["seed"])
    text = Path(o["data"]).read_text(encoding="utf-8")
    cut = int(0.9 * len(text))
    parts = text[:cut], text[cut:]
    (train, validation), vocab = subwords(*parts, o["subwords"]) if "subwords" in o else characters(*parts)
    bytes_per_token = len(parts[1].encode()) / len(validation)
    model = GPT({**SHAPE, "vocab": vocab})
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=BETAS)
    T, stepping, evaluating = SHAPE["context"], 0.0, 0.0
    steps = o.get("steps") or 10**9

    def say(step, *, evaluate=False):
        event = {"step": step, "seconds": time.time() - o["began"] - evaluating, "stepping": stepping}
        if evaluate:
            event["loss"] = mean_loss(model, validation, T)
            event["bits_per_byte"] = event["loss"] / math.log(2) / bytes_per_token
        print(json.dumps(event), flush=True)

    step = warmed = 0
    while step < steps:
        before = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps)
        at = rng.integers(0, len(train) - T, BATCH)[:, None] + np.arange(T)
        loss = model(torch.from_numpy(train[at]), torch.from_numpy(train[at + 1]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        stepping += time.perf_counter() - before
        step += 1
        if step == WARM:
            warmed = stepping
        if step == PILOT and "budget" in o:
            left = o["budget"] - (time.time() - o["began"] - evaluating)
            steps = PILOT + max(1, int(o["safety"] * left / ((stepping - warmed) / (PILOT - WARM))))
        if o.get("every") and step % o["every"] == 0 and step < steps:
            began = time.time()
            say(step, evaluate=True)
            evaluating += time.time() - began
    say(step, evaluate=True)


main()
