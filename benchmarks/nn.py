"""Benchmarks of every fused kernel of axone-nn against PyTorch's, forward and backward, one thread each.

    python benchmarks/nn.py [--peer-python PATH] [--shapes small medium] [--only attention] [--rounds 15]

Each library runs in a process of its own, with one thread, and with a C library that keeps freed memory, like a
training worker of axone-llm. The two take turns; a figure is the
median over the rounds, each the median of some milliseconds of calls. The shapes are those of one of two workers that
train a character-level GPT of four layers ("small") or a GPT of six layers on longer texts ("medium"). The input is the
result of an operation, and its gradient is dropped; parameters have no gradient yet. The last column is the upper limit
of the ratio, for kernels that have one.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from functools import partial

SHAPES = {
    "small": {"B": 6, "T": 64, "C": 128, "H": 4, "V": 65},
    "medium": {"B": 4, "T": 256, "C": 384, "H": 6, "V": 65},
}
LIMITS = {
    "linear": 1.0, "linear qkv": 1.0, "linear down": 1.0, "linear bias": 1.0, "attention": 1.0, "attention apart": 1.0,
    "gelu": 1.2, "cross entropy": 1.2, "cross entropy 4096": 1.2, "layer norm": 2.0, "rms norm": 2.0,
}  # fmt: skip


def sizes(B, T, C, H, V):
    """Return, for each kernel, the shapes of its input and of its parameters."""
    N, D = B * T, C // H
    return {
        "linear": ([(N, C)], [(4 * C, C)]),
        "linear qkv": ([(N, C)], [(3 * C, C)]),
        "linear down": ([(N, 4 * C)], [(C, 4 * C)]),
        "linear bias": ([(N, C)], [(4 * C, C), (4 * C,)]),
        "attention": ([(B, T, 3 * C)], []),
        "attention apart": ([(B, H, T, D)] * 3, []),
        "gelu": ([(N, 4 * C)], []),
        "gelu exact": ([(N, 4 * C)], []),
        "silu": ([(N, 4 * C)], []),
        "swiglu": ([(N, 4 * C)] * 2, []),
        "relu2": ([(N, 4 * C)], []),
        "cross entropy": ([(N, V)], []),
        "cross entropy 4096": ([(N, 4096)], []),
        "layer norm": ([(N, C)], [(C,), (C,)]),
        "rms norm": ([(N, C)], [(C,)]),
        "softmax": ([(B, H, T, T)], []),
        "embedding": ([], [(V, C)]),
        "rotary": ([(B, H, T, D)], []),
        "dropout": ([(N, C)], []),
    }


def axone_kernels(B, T, C, H, V):
    """Return our kernels."""
    import numpy as np

    from axone.nn import RotaryEmbedding, functional

    rng = np.random.default_rng(0)
    cos, sin = RotaryEmbedding(C // H).tables(np.arange(T))
    targets = {n: rng.integers(0, n, B * T) for n in (V, 4096)}
    ids = rng.integers(0, V, (B, T))
    return {
        **dict.fromkeys(("linear", "linear qkv", "linear down", "linear bias"), functional.linear),
        "attention": partial(functional.packed_attention, num_heads=H, num_kv_heads=H),
        "attention apart": partial(functional.scaled_dot_product_attention, causal=True),
        "gelu": functional.gelu,
        "gelu exact": partial(functional.gelu, approximate="none"),
        "silu": functional.silu,
        "swiglu": functional.swiglu,
        "relu2": functional.relu2,
        "cross entropy": partial(functional.cross_entropy, targets=targets[V]),
        "cross entropy 4096": partial(functional.cross_entropy, targets=targets[4096]),
        "layer norm": functional.layer_norm,
        "rms norm": functional.rms_norm,
        "softmax": functional.softmax,
        "embedding": lambda weight: functional.embedding(ids, weight),
        "rotary": partial(functional.apply_rotary, cos=cos, sin=sin),
        "dropout": partial(functional.dropout, p=0.1, rng=rng),
    }


def axone_call(kernel, inputs, parameters):
    """Return functions that run the kernel forward, and forward and backward."""
    import numpy as np

    from axone.autograd import Tensor
    from axone.autograd.extend import record

    rng = np.random.default_rng(0)
    leaves = [Tensor(rng.standard_normal(shape, dtype=np.float32), requires_grad=True) for shape in inputs + parameters]

    def forward():
        given = [record("input", x.data, (x,), lambda _: (None,)) for x in leaves[: len(inputs)]]
        return kernel(*given, *leaves[len(inputs) :])

    gradient = rng.standard_normal(forward().shape, dtype=np.float32)

    def both():
        for leaf in leaves:
            leaf.grad = None
        forward().backward(gradient)

    return forward, both


def torch_kernels(B, T, C, H, V):
    """Return PyTorch's kernels."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    D = C // H
    angles = torch.outer(torch.arange(T), 10000 ** (-torch.arange(0, D, 2) / D)).repeat(1, 2)
    cos, sin = angles.cos(), angles.sin()
    targets = {n: torch.randint(n, (B * T,)) for n in (V, 4096)}
    ids = torch.randint(V, (B, T))

    def attention(qkv):
        q, k, v = (part.view(B, T, H, D).transpose(1, 2) for part in qkv.split(C, dim=2))
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return out.transpose(1, 2).contiguous().view(B, T, C)

    def rotary(x):
        return x * cos + torch.cat((-x[..., D // 2 :], x[..., : D // 2]), dim=-1) * sin

    return {
        **dict.fromkeys(("linear", "linear qkv", "linear down", "linear bias"), functional.linear),
        "attention": attention,
        "attention apart": partial(functional.scaled_dot_product_attention, is_causal=True),
        "gelu": partial(functional.gelu, approximate="tanh"),
        "gelu exact": functional.gelu,
        "silu": functional.silu,
        "swiglu": lambda gate, up: functional.silu(gate) * up,
        "relu2": lambda x: functional.relu(x).square(),
        "cross entropy": partial(functional.cross_entropy, target=targets[V]),
        "cross entropy 4096": partial(functional.cross_entropy, target=targets[4096]),
        "layer norm": lambda x, weight, bias: functional.layer_norm(x, (C,), weight, bias),
        "rms norm": lambda x, weight: functional.rms_norm(x, (C,), weight),
        "softmax": partial(functional.softmax, dim=-1),
        "embedding": partial(functional.embedding, ids),
        "rotary": rotary,
        "dropout": partial(functional.dropout, p=0.1),
    }


def torch_call(kernel, inputs, parameters):
    """Return functions that run the kernel forward, and forward and backward."""
    import torch

    leaves = [torch.randn(shape, requires_grad=True) for shape in inputs + parameters]

    def forward():
        return kernel(*leaves)

    gradient = torch.randn(forward().shape)

    def both():
        for leaf in leaves:
            leaf.grad = None
        forward().backward(gradient)

    return forward, both


LIBRARIES = {"axone": (axone_kernels, axone_call), "torch": (torch_kernels, torch_call)}


def serve(library):
    """Answer requests for times, one line of JSON each, until the parent closes the pipe."""
    kernels, call = LIBRARIES[library]
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
    ready = {}
    for line in sys.stdin:
        name, shape, seconds, clock = json.loads(line)
        if (name, shape) not in ready:
            dims = SHAPES[shape]
            ready[name, shape] = call(kernels(**dims)[name], *sizes(**dims)[name])
        times = [measure(function, seconds, getattr(time, clock)) for function in ready[name, shape]]
        print(json.dumps(times), flush=True)


def measure(function, seconds, clock):
    """Return the median time of a call in seconds; repeat for a given time."""
    function()
    times = []
    while sum(times) < seconds or len(times) < 3:
        start = clock()
        function()
        times.append(clock() - start)
    return statistics.median(times)


def start(python, library):
    """Start the process of a library."""
    environment = {**os.environ, **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
    command = [python, __file__, "--serve", library]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", env=environment
    )


def ask(process, *request):
    """Return a process's answer."""
    process.stdin.write(json.dumps(request) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "--peer-python", default=sys.executable, help="Python interpreter of an environment with PyTorch"
    )
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--only", nargs="+", help="parts of the names of kernels to measure (default: all)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.03, help="duration of a round (default: 0.03)")
    parser.add_argument("--clock", choices=("perf_counter", "process_time"), default="perf_counter",
                        help="process_time excludes other programs: for a busy machine")  # fmt: skip
    parser.add_argument("--serve", choices=LIBRARIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    processes = {"axone": start(sys.executable, "axone"), "torch": start(options.peer_python, "torch")}
    print(f"{'':22}{'forward, µs':>24}{'':8}{'and backward, µs':>24}")
    print(f"{'':22}{'axone':>12}{'PyTorch':>12}{'ratio':>8}{'axone':>12}{'PyTorch':>12}{'ratio':>8}{'limit':>8}")
    for shape in options.shapes:
        print(shape, SHAPES[shape])
        for name in sizes(**SHAPES[shape]):
            if options.only and not any(part in name for part in options.only):
                continue
            rounds = {library: [] for library in processes}
            for i in range(options.rounds):
                for library in sorted(processes, reverse=i % 2 == 1):
                    rounds[library].append(ask(processes[library], name, shape, options.seconds, options.clock))
            ours, theirs = (
                [statistics.median(r) * 1e6 for r in zip(*rounds[library])] for library in ("axone", "torch")
            )
            columns = "".join(f"{a:12.1f}{b:12.1f}{a / b:8.2f}" for a, b in zip(ours, theirs))
            limit = LIMITS.get(name)
            verdict = "" if limit is None else f"{limit:8.1f}{'' if ours[1] <= limit * theirs[1] else '  beyond'}"
            print(f"  {name:20}{columns}{verdict}", flush=True)
    for process in processes.values():
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    main()
