"""Benchmarks of training steps against PyTorch, eager and compiled, JAX, a step by hand, and the matrix products alone.

All contenders train one model on random tokens, with the same shapes, the same AdamW and the same clipping. The step by
hand is NumPy without an engine. The products are the matrix products of a step and nothing else, with attention counted
in full: a lower bound for every program that computes with this BLAS. A ratio is the peer's time or memory divided by
ours, so more is better; against the products it stays below one. `speed` is the command that runs these benchmarks.
"""

from functools import partial

from harness import Contender, race
from rows import Row

PEERS = {
    "PyTorch": ("torch_train.py", {}),
    "PyTorch compiled": ("torch_train.py", {"compile": True}),
    "JAX": ("jax_train.py", {}),
}
OWN = {"a step by hand": "handwritten.py", "its matrix products alone": "products.py"}
BOUNDS = {
    "small": {"PyTorch": 1.3, "PyTorch compiled": 1.3, "JAX": 2, "a step by hand": 1.15, "its matrix products alone": 1 / 1.3, "one worker": 1.75},
    "medium": {"PyTorch": 1.05, "PyTorch compiled": 1.08, "JAX": 2, "a step by hand": 1.03, "its matrix products alone": 1 / 1.12, "one worker": 1.85},
    "large": {"PyTorch": 1.15, "its matrix products alone": 1 / 1.4},
}  # fmt: skip
MAPPED = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # as the allocators of other systems do, with other thresholds
MEMORY = {"small": 1 / 0.5, "medium": 1 / 0.8}


def steps(size, options):
    """Compare a training step with that of every peer that has a target for this size."""
    shape = {"size": size, "workers": options.threads, "threads": options.threads}
    contenders = {"Axone": Contender("axone_train.py", options=shape)}
    for name in BOUNDS[size]:
        if name in PEERS:
            script, more = PEERS[name]
            contenders[name] = Contender(script, options.peer_python, {**shape, **more})
        elif name in OWN:
            contenders[name] = Contender(OWN[name], options=shape)
        else:
            contenders[name] = Contender("axone_train.py", options={**shape, "workers": 1})
    results = race(contenders, threads=options.threads, rounds=options.rounds)
    ours = results["Axone"]
    rows = [
        Row(f"training step, {size}", name, ours.seconds, results[name].seconds, bound)
        for name, bound in BOUNDS[size].items()
    ]
    if ours.peak_memory and "PyTorch" in results:
        memory = (results[name].peak_memory / 2**20 for name in ("Axone", "PyTorch"))
        rows.append(Row(f"peak memory of training, {size}", "PyTorch", *memory, MEMORY.get(size), "MiB"))
    return results, rows


def allocators(size, options):
    """Compare the ways to keep memory: in glibc, in the engine, and not at all; with two settings of glibc."""
    shape = {"size": size, "workers": options.threads, "threads": options.threads}
    contenders = {"Axone": Contender("axone_train.py", options=shape)}
    for name, environment in (("glibc as it is", {}), ("large blocks mapped", MAPPED)):
        for way in ("reused", "returned"):
            contenders[f"{name}, {way}"] = Contender(
                "axone_train.py", options={**shape, "memory": way}, environment=environment
            )
    results = race(contenders, threads=options.threads, rounds=options.rounds)
    return results, [
        Row(f"memory, {size}", name, results["Axone"].seconds, result.seconds)
        for name, result in results.items()
        if name != "Axone"
    ]


RACES = {f"train-{size}": partial(steps, size) for size in BOUNDS} | {
    f"memory-{size}": partial(allocators, size) for size in BOUNDS
}
