"""Memory of attention at long contexts, forward and backward: tiles of queries against the full score matrix.

    python benchmarks/nn_memory.py [--contexts 1024 2048 4096] [--heads 8] [--width 64] [--peer-python PATH]

Each figure is the peak memory of a process minus its memory before the computation, when its inputs exist: one causal
forward and backward of one sequence, float32, one thread. "full matrix" is `axone.nn.functional.plain`, which keeps
every score. With ``--peer-python`` PyTorch's attention is measured, too.
"""

import argparse
import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

WAYS = {"tiles": "axone", "full matrix": "axone", "PyTorch": "torch"}


def resident(field):
    """Return the resident memory (VmRSS) or its peak (VmHWM), in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field))


def axone_run(way, shape):
    """Return a function that runs our attention forward and backward."""
    import numpy as np

    from axone.autograd import Tensor
    from axone.nn import functional

    rng = np.random.default_rng(0)
    heads = [Tensor(rng.standard_normal(shape, dtype=np.float32), requires_grad=True) for _ in range(3)]
    gradient = rng.standard_normal(shape, dtype=np.float32)
    function = {"tiles": functional, "full matrix": functional.plain}[way].scaled_dot_product_attention
    return lambda: function(*heads, causal=True).backward(gradient)


def torch_run(_, shape):
    """Return a function that runs PyTorch's attention forward and backward."""
    import torch

    torch.set_num_threads(1)
    heads = [torch.randn(shape, requires_grad=True) for _ in range(3)]
    gradient = torch.randn(shape)
    function = torch.nn.functional.scaled_dot_product_attention
    return lambda: function(*heads, is_causal=True).backward(gradient)


def one(way, context, heads, width):
    """Print the growth in bytes and the seconds of one implementation."""
    prepare = {"axone": axone_run, "torch": torch_run}[WAYS[way]]
    prepare(way, (1, heads, 128, width))()  # load lazily loaded modules
    run = prepare(way, (1, heads, context, width))
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    before = resident("VmRSS")
    start = time.perf_counter()
    run()
    print(resident("VmHWM") - before, time.perf_counter() - start)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--contexts", nargs="+", type=int, default=[1024, 2048, 4096])
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--peer-python", help="Python interpreter of an environment with PyTorch")
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one, options.contexts[0], options.heads, options.width)
        return
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    ways = [way for way, library in WAYS.items() if library == "axone" or options.peer_python]
    print(f"1 x {options.heads} heads x {options.width}, causal: MiB at the peak (seconds)")
    print(f"{'context':>8}" + "".join(f"{way:>22}" for way in ways) + f"{'tiles / full':>14}")
    for context in options.contexts:
        grown = {}
        row = f"{context:8}"
        for way in ways:
            python = sys.executable if WAYS[way] == "axone" else options.peer_python
            command = [python, __file__, "--one", way, "--contexts", str(context)]
            command += ["--heads", str(options.heads), "--width", str(options.width)]
            done = subprocess.run(
                command, env=environment, check=True, capture_output=True, text=True, encoding="utf-8"
            )
            grown[way], seconds = map(float, done.stdout.split())
            row += f"{grown[way] / 2**20:14.1f} ({seconds:5.2f})"
        print(row + f"{grown['tiles'] / grown['full matrix']:14.2f}", flush=True)


if __name__ == "__main__":
    main()
