"""Training steps of one job of ranks: seconds of each step, divided into compute, waiting and communication.

Started by `scaling.py` under mpiexec, or alone. Each rank is pinned to its cores: worker w of rank r to core
(r * workers + w) modulo the cores of the machine. Rank 0 prints one JSON object.
"""

import json
import os
import resource
import sys
import time

import numpy as np

from axone.llm import LanguageModel, LanguageModelConfig, TokenDataset, TrainerConfig
from axone.llm.distributed import world
from axone.llm.training.ranks import data_parallel
from axone.llm.training.step import TrainingStep

MODELS = {
    "small": {"num_layers": 4, "num_heads": 4, "embed_dim": 128, "context_length": 64, "vocab_size": 65},
    "medium": {"num_layers": 6, "num_heads": 6, "embed_dim": 384, "context_length": 256, "vocab_size": 65},
}
WARM_UP = 2


class Numbers:
    """Stand-in for a tokenizer: the data are random ids."""

    def __init__(self, vocab_size):
        self.vocab_size = vocab_size


def pin(rank, workers):
    """Pin this process to its cores."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[(rank * workers + worker) % len(cores)] for worker in range(workers)})


def all_reduce(ranks, elements, seconds):
    """Return the median time of an all-reduce of float32 numbers."""
    array, times = np.zeros(elements, np.float32), []
    end = time.perf_counter() + seconds
    while ranks.broadcast(len(times) < 7 or time.perf_counter() < end):
        ranks.barrier()
        before = time.perf_counter()
        ranks.all_reduce(array)
        times.append(time.perf_counter() - before)
    return float(np.median(times[2:]))


def steps(ranks, o):
    """Return the seconds of each step of a training, and the peak memory of a rank."""
    rng = np.random.default_rng(0)
    shape = LanguageModelConfig(**MODELS[o["model"]], bias=False)
    ids = rng.integers(0, shape.vocab_size, 1_000_000).astype(np.uint16)
    train, validation = TokenDataset(ids, Numbers(shape.vocab_size)).split()
    config = TrainerConfig(
        steps=1000,
        batch_size=o["batch"],
        context_length=shape.context_length,
        workers=o["workers"],
        shard_optimizer=o["shards"],
    )
    model = LanguageModel(shape, rng=rng)
    with data_parallel(model, config, ranks) as workers:
        step = TrainingStep(workers, config, train, validation)
        step.start()
        times, waited = [], []

        def lead():
            while len(times) < WARM_UP + 3 or sum(times[WARM_UP:]) < o["seconds"]:
                before, waiting = time.perf_counter(), (ranks.waiting, ranks.communicating)
                step.gradients(len(times))
                step.update(len(times))
                times.append(time.perf_counter() - before)
                waited.append((ranks.waiting - waiting[0], ranks.communicating - waiting[1]))
            return len(times)

        began = ranks.waiting, ranks.communicating
        count = workers.ranks.lead(step, lead)
        own = (ranks.waiting - began[0]) / count, (ranks.communicating - began[1]) / count
        shares = np.mean(ranks.all_gather(own), axis=0).tolist()  # of a step, mean over ranks
        moments = sum(array.nbytes for array in step.optimizers.state_dict().values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "steps": times[WARM_UP:],
        "waiting": shares[0],
        "communicating": shares[1],
        "parameters": int(workers.flat.data.size),
        "moments": max(ranks.all_gather(moments)),
        "peak": max(ranks.all_gather(peak)),
    }


def main():
    """Measure what the options ask for."""
    o = json.loads(sys.argv[1])
    ranks = world()
    pin(ranks.rank, o.get("workers", 1))
    if "elements" in o:
        found = {str(elements): all_reduce(ranks, elements, o["seconds"]) for elements in o["elements"]}
    else:
        found = steps(ranks, o)
    if ranks.rank == 0:
        print(json.dumps(found))


main()
