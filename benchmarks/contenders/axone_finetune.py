"""Fine-tune with Axone on given batches, and write seconds and peak memory as JSON.

    python axone_finetune.py FOLDER BATCHES.npz RANK [full] [--repeated] [--all-positions]

With ``--repeated`` the common beginning of the rows is computed for each of them, and with ``--all-positions`` the output
layer at all positions too, as PyTorch and PEFT do.
"""

import json
import resource
import sys
import time

import numpy as np

from axone.autograd.optim import AdamW
from axone.llm import Adapter, Conversations, open_bundle
from axone.llm.data.training_data import MaskedBatch
from axone.llm.loss import batch_loss
from axone.llm.runtime.data_parallel import DataParallel
from axone.nn.functional import cross_entropy

WORKERS = 2


def all_positions(model, batch):
    return cross_entropy(model(batch.inputs), batch.targets)


def shard(inputs, targets, *, repeated):
    """Return the rows as a batch, with their common beginning once unless it is to be repeated."""
    if repeated:
        return MaskedBatch(inputs, targets)
    learned = targets >= 0
    lengths = [len(row) - np.argmax(row[::-1]) for row in learned]  # up to the last target
    ids = [np.append(row[:n], goals[n - 1]) for row, goals, n in zip(inputs, targets, lengths, strict=True)]
    trained = [np.append(False, row[:n]) for row, n in zip(learned, lengths, strict=True)]
    starts = np.cumsum([0, *(len(row) for row in ids)])
    data = Conversations(np.concatenate(ids).astype(np.int32), np.concatenate(trained), starts, NoTokenizer())
    return data.read(np.arange(len(ids)), inputs.shape[1])


class NoTokenizer:
    """Stand-in for a tokenizer: the data are ids."""

    vocab_size = 1 << 30


def main() -> None:
    folder, batches, rank, *way = sys.argv[1:]
    model = open_bundle(folder).model
    if "full" not in way:
        Adapter.add(model, int(rank), 2 * int(rank), rng=np.random.default_rng(0))
    repeated = "--repeated" in way or "--all-positions" in way
    loss = all_positions if "--all-positions" in way else batch_loss
    arrays = np.load(batches)
    seconds, losses = [], []
    with DataParallel(model, WORKERS) as workers:
        parameters = [workers.flat.matrices, workers.flat.vectors]
        optimizer = AdamW(parameters, lr=1e-3, betas=(0.9, 0.99), weight_decay=0.0)
        for number in range(len(arrays.files) // 2):
            inputs, targets = (arrays[f"{name}{number}"] for name in ("inputs", "targets"))
            total = (targets >= 0).sum()
            begin = time.perf_counter()
            parts = [shard(inputs[i::WORKERS], targets[i::WORKERS], repeated=repeated) for i in range(WORKERS)]
            shards = [[(part, float((part.targets >= 0).sum() / total))] for part in parts]
            losses.append(workers.compute_gradients(shards, lambda replica, *_: replica.train(), loss))
            workers.clip_gradients(1.0)
            optimizer.step(parallel=workers.parallel_for)
            seconds.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "losses": losses, "peak": peak}))


main()
