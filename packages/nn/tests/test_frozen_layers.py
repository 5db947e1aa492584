"""Values and gradients of every layer against PyTorch and transformers, frozen by `frozen/make_frozen.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import axone.nn
from axone.autograd import Tensor, relu
from axone.nn import (
    GELU,
    MLP,
    Embedding,
    FeedForward,
    Head,
    LayerNorm,
    Linear,
    Llama3Scaling,
    Module,
    MultiHeadAttention,
    ReLU,
    RMSNorm,
    RotaryEmbedding,
    Sequential,
    Sigmoid,
    SiLU,
    SwiGLU,
    Tanh,
    Transformer,
    TransformerBlock,
)
from axone.nn import functional as F  # noqa: N812 - PyTorch's name for it

Arrays = dict[str, NDArray[Any]]


def read() -> dict[str, dict[str, Arrays]]:
    """Return the arrays by case, part and name."""
    cases: dict[str, dict[str, Arrays]] = {}
    with np.load(Path(__file__).parent / "frozen" / "layers.npz", allow_pickle=False) as archive:
        for path in archive.files:
            case, part, name = path.split("/")
            cases.setdefault(case, {}).setdefault(part, {})[name] = archive[path]
    return cases


FROZEN = read()

FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "attention_causal": lambda q, k, v: F.scaled_dot_product_attention(q, k, v, causal=True),
    "attention_masked": F.scaled_dot_product_attention,
    "cross_entropy": lambda logits, targets, label_smoothing: F.cross_entropy(
        logits, targets, label_smoothing=float(label_smoothing)
    ),
    "gelu_none": lambda x: F.gelu(x, approximate="none"),
    "gelu_tanh": F.gelu,
    "mse_loss": F.mse_loss,
    "relu2": F.relu2,
    "silu": F.silu,
    "swiglu": F.swiglu,
}
FUNCTIONS["cross_entropy_smoothed"] = FUNCTIONS["cross_entropy"]


def block() -> TransformerBlock:
    return TransformerBlock(
        MultiHeadAttention(8, 4), FeedForward(8, 16), attention_norm=LayerNorm(8), mlp_norm=LayerNorm(8)
    )


LLAMA = RotaryEmbedding(
    4, theta=100.0, scaling=Llama3Scaling(8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_length=32)
)

MODULES: dict[str, Callable[[], Any]] = {
    "embedding": lambda: Embedding(7, 6),
    "head": lambda: Head(8, 4),
    "layer_norm": lambda: LayerNorm(6),
    "linear": lambda: Linear(6, 4),
    "linear_without_bias": lambda: Linear(6, 4, bias=False),
    "llama_attention": lambda: MultiHeadAttention(8, 4, num_kv_heads=2, head_dim=4, rotary=LLAMA),
    "llama_mlp": lambda: SwiGLU(8, 12),
    "mlp": lambda: MLP(8, [5, 5, 3]),
    "module_gelu": lambda: GELU("none"),
    "module_relu": ReLU,
    "module_sigmoid": Sigmoid,
    "module_silu": SiLU,
    "module_tanh": Tanh,
    "multi_head_attention": lambda: MultiHeadAttention(8, 4),
    "qwen3_attention": lambda: MultiHeadAttention(
        8, 4, num_kv_heads=2, head_dim=4, bias=False, qk_norm=True, rotary=RotaryEmbedding(4)
    ),
    "rms_norm": lambda: RMSNorm(6),
    "rotary_embedding": lambda: Positioned(LLAMA),
    "sequential": lambda: Sequential(Linear(8, 5), relu, Linear(5, 3, bias=False)),
    "transformer": lambda: Transformer([block(), block()], norm=LayerNorm(8)),
    "transformer_block": block,
}
NOT_FROZEN = {
    "Dropout",
    "Int8Embedding",
    "Int8Linear",  # test_int8.py
    "FeedForward",
    "LoRALinear",
    "Module",
    "NgramEmbedding",  # PyTorch has none: test_ngram compares it with a loop
}  # dropout masks differ by generator; every block contains a FeedForward; test_lora.py has arrays of PEFT


class Positioned(Module):
    """A rotary embedding at every third position."""

    def __init__(self, rotary: RotaryEmbedding) -> None:
        self.rotary = rotary

    def __call__(self, x: Tensor) -> Tensor:
        return self.rotary(x, 3 * np.arange(6))


def compare(case: str, out: Tensor, leaves: dict[str, Tensor]) -> None:
    """Compare output and gradients with the frozen ones, within PyTorch's tolerances for float32."""
    parts = FROZEN[case]
    depth = 10 if case == "transformer" else 1  # rounding accumulates
    assert out.dtype == np.float32
    np.testing.assert_allclose(out.data, parts["output"]["y"], rtol=1.3e-6 * depth, atol=1e-5 * depth)
    out.backward(parts["output"]["g"])
    assert set(leaves) == set(parts["gradient"])
    for name, leaf in leaves.items():
        assert leaf.grad is not None, name
        expected = parts["gradient"][name]
        np.testing.assert_allclose(leaf.grad, expected, rtol=1.3e-6 * depth, atol=1e-5 * depth, err_msg=name)


def test_every_case_is_compared_and_every_layer_has_a_case() -> None:
    assert set(FUNCTIONS) | set(MODULES) == set(FROZEN)
    kinds = {type(part).__name__ for make in MODULES.values() for part in make().modules()}
    public = {
        name
        for name in axone.nn.__all__
        if isinstance(kind := getattr(axone.nn, name), type) and issubclass(kind, Module)
    }
    assert public - NOT_FROZEN <= kinds


@pytest.mark.parametrize("case", FUNCTIONS)
def test_functions(case: str) -> None:
    parts = FROZEN[case]
    leaves = {name: Tensor(array, requires_grad=True) for name, array in parts["input"].items()}
    compare(case, FUNCTIONS[case](**leaves, **parts.get("constant", {})), leaves)


@pytest.mark.parametrize("case", MODULES)
def test_modules(case: str) -> None:
    parts = FROZEN[case]
    module = MODULES[case]()
    module.load_state_dict(parts.get("parameter", {}))
    inputs = [Tensor(array, requires_grad=True) for array in parts.get("input", {}).values()]
    out = module(*inputs, *parts.get("constant", {}).values())
    compare(case, out, {**dict(zip(parts.get("input", {}), inputs)), **dict(module.named_parameters())})
