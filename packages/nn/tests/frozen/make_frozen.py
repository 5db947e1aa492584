"""Compute values and gradients of every layer with PyTorch and transformers, and save them in ``layers.npz``.

Run with a Python that has both (made with PyTorch 2.13 and transformers 5.23 and 5.24)::

    python packages/nn/tests/frozen/make_frozen.py

An array's name is ``CASE/PART/NAME``. The parts are the inputs, the parameters under our names, the output with its
gradient, and the gradients of inputs and parameters. All are float32, computed by the peer in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found]  # a peer, which our environment does not have
from torch import nn
from transformers import LlamaConfig, Qwen3Config  # type: ignore[import-not-found]  # likewise
from transformers.models.llama.modeling_llama import (  # type: ignore[import-not-found]  # likewise
    LlamaAttention,
    LlamaMLP,
    LlamaRotaryEmbedding,
    rotate_half,
)
from transformers.models.qwen3.modeling_qwen3 import (  # type: ignore[import-not-found]  # likewise
    Qwen3Attention,
    Qwen3RotaryEmbedding,
)

F = nn.functional
Named = dict[str, Any]

frozen: dict[str, np.ndarray] = {}


def random(*shape: int) -> Any:
    return torch.randn(*shape)


def freeze(
    case: str, function: Callable[..., Any], inputs: Named, parameters: Named | None = None, **constants: Any
) -> None:
    """Run `function` on inputs, parameters and constants; keep them, its output and the gradients."""
    parameters = parameters or {}
    leaves = {**inputs, **parameters}
    for leaf in leaves.values():
        leaf.requires_grad_()
    out = function(*leaves.values(), **constants)
    gradient = torch.randn_like(out)
    out.backward(gradient)
    parts = {"input": inputs, "parameter": parameters, "constant": constants, "output": {"y": out, "g": gradient}}
    parts["gradient"] = {name: leaf.grad for name, leaf in leaves.items()}
    for part, named in parts.items():
        for name, value in named.items():
            frozen[f"{case}/{part}/{name}"] = value.detach().numpy() if torch.is_tensor(value) else np.asarray(value)


def freeze_module(case: str, module: Any, x: Any, rename: Callable[[Named], Named], call: Callable[[Any], Any]) -> None:
    """Run a module of the peer; keep its parameters and gradients under our names."""
    x.requires_grad_()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    out = call(x)
    gradient = torch.randn_like(out)
    out.backward(gradient)
    values = rename({name: p.detach() for name, p in module.named_parameters()})
    gradients = rename({name: p.grad for name, p in module.named_parameters()})
    parts = {
        "input": {"x": x},
        "parameter": values,
        "output": {"y": out, "g": gradient},
        "gradient": {"x": x.grad, **gradients},
    }
    for part, named in parts.items():
        for name, value in named.items():
            frozen[f"{case}/{part}/{name}"] = value.detach().numpy()


def packed(named: Named) -> Named:
    """Rename the parameters of Llama's attention, and concatenate its three projections."""
    ours = {"qkv_proj.weight": torch.cat([named.pop(f"{part}_proj.weight") for part in "qkv"])}
    if "q_proj.bias" in named:
        ours["qkv_proj.bias"] = torch.cat([named.pop(f"{part}_proj.bias") for part in "qkv"])
    return {**ours, **{name.replace("o_proj", "out_proj"): value for name, value in named.items()}}


def first(function: Callable[[Any], Any], x: Any) -> Any:
    return function(x)[0]


def functions() -> None:
    B, T, C, H, V = 2, 5, 6, 4, 7
    freeze("linear", F.linear, {"x": random(B, T, C)}, {"weight": random(H, C), "bias": random(H)})
    freeze("linear_without_bias", F.linear, {"x": random(T, C)}, {"weight": random(H, C)})
    ids = torch.randint(V, (B, T))
    freeze("embedding", lambda weight, ids: F.embedding(ids, weight), {}, {"weight": random(V, C)}, ids=ids)
    freeze("gelu_tanh", lambda x: F.gelu(x, approximate="tanh"), {"x": 3 * random(4, C)})
    freeze("gelu_none", F.gelu, {"x": 3 * random(4, C)})
    freeze("silu", F.silu, {"x": 3 * random(4, C)})
    freeze("relu2", lambda x: F.relu(x).square(), {"x": random(4, C)})
    freeze("swiglu", lambda gate, up: F.silu(gate) * up, {"gate": random(4, C), "up": random(4, C)})
    affine = {"weight": random(C), "bias": random(C)}
    freeze(
        "layer_norm", lambda x, weight, bias: F.layer_norm(x, (C,), weight, bias), {"x": random(B, T, C) + 3}, affine
    )
    freeze(
        "rms_norm", lambda x, weight: F.rms_norm(x, (C,), weight, 1e-6), {"x": random(B, T, C)}, {"weight": random(C)}
    )
    targets = torch.randint(V, (4, T))
    targets[0, 2] = targets[3, 1] = -100
    for case, smoothing in (("cross_entropy", 0.0), ("cross_entropy_smoothed", 0.1)):
        freeze(
            case,
            lambda logits, targets, label_smoothing: F.cross_entropy(
                logits.reshape(-1, V), targets.reshape(-1), label_smoothing=label_smoothing
            ),
            {"logits": 3 * random(4, T, V)},
            targets=targets,
            label_smoothing=smoothing,
        )
    heads = {"q": random(B, H, T, C), "k": random(B, 2, T + 2, C), "v": random(B, 2, T + 2, C)}
    mask = torch.rand(B, H, T, T + 2) < 0.6
    mask[..., 0] = True
    freeze(
        "attention_masked",
        lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True),
        heads,
        mask=mask,
    )
    heads = {name: random(B, H, T, C) for name in "qkv"}
    freeze("attention_causal", lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True), heads)


def modules() -> None:
    B, T, C, H, D = 2, 6, 8, 4, 4
    causal = torch.full((T, T), -torch.inf).triu(1)

    attention = nn.MultiheadAttention(C, H, batch_first=True)
    renamed = {
        "in_proj_weight": "qkv_proj.weight", "in_proj_bias": "qkv_proj.bias",
        "self_attn.in_proj_weight": "attention.qkv_proj.weight", "self_attn.in_proj_bias": "attention.qkv_proj.bias",
        "self_attn.out_proj.weight": "attention.out_proj.weight", "self_attn.out_proj.bias": "attention.out_proj.bias",
        "linear1.weight": "mlp.up_proj.weight", "linear1.bias": "mlp.up_proj.bias",
        "linear2.weight": "mlp.down_proj.weight", "linear2.bias": "mlp.down_proj.bias",
        "norm1.weight": "attention_norm.weight", "norm1.bias": "attention_norm.bias",
        "norm2.weight": "mlp_norm.weight", "norm2.bias": "mlp_norm.bias",
    }  # fmt: skip

    def ours(named: Named) -> Named:
        return {renamed.get(name, name): value for name, value in named.items()}

    freeze_module(
        "multi_head_attention", attention, random(B, T, C), ours, lambda x: attention(x, x, x, attn_mask=causal)[0]
    )

    def gelu(x: Any) -> Any:
        return F.gelu(x, approximate="tanh")

    block = nn.TransformerEncoderLayer(C, H, 2 * C, dropout=0.0, activation=gelu, batch_first=True, norm_first=True)
    freeze_module("transformer_block", block, random(B, T, C), ours, lambda x: block(x, src_mask=causal))

    stack = nn.TransformerEncoder(block, 2, norm=nn.LayerNorm(C), enable_nested_tensor=False)

    def ours_stacked(named: Named) -> Named:
        split = {name: name.split(".", 2) for name in named if name.startswith("layers.")}
        blocks = {f"blocks.{number}.{renamed[rest]}": named[name] for name, (_, number, rest) in split.items()}
        return {**blocks, **{name: value for name, value in named.items() if name not in split}}

    freeze_module("transformer", stack, random(B, T, C), ours_stacked, lambda x: stack(x, mask=causal))

    shape = {
        "hidden_size": C,
        "num_attention_heads": H,
        "num_key_value_heads": 2,
        "head_dim": D,
        "intermediate_size": 12,
    }
    scaling = {
        "rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
    }  # fmt: skip
    llama = LlamaConfig(**shape, attention_bias=True, rope_parameters=scaling, attn_implementation="eager")
    qwen = Qwen3Config(
        **shape, rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, attn_implementation="eager"
    )
    for case, config, attention_class, rotary_class in (
        ("llama_attention", llama, LlamaAttention, LlamaRotaryEmbedding),
        ("qwen3_attention", qwen, Qwen3Attention, Qwen3RotaryEmbedding),
    ):
        layer, rotary = attention_class(config, 0), rotary_class(config)
        angles = rotary(random(B, T, C), torch.arange(T)[None])
        call = partial(layer, position_embeddings=angles, attention_mask=causal[None, None])
        freeze_module(case, layer, random(B, T, C), packed, partial(first, call))

    turned = LlamaRotaryEmbedding(llama)
    cos, sin = turned(random(1, 1, D), 3 * torch.arange(T)[None])
    freeze("rotary_embedding", lambda x: x * cos + rotate_half(x) * sin, {"x": random(B, H, T, D)})

    chain = nn.Sequential(nn.Linear(C, 5), nn.ReLU(), nn.Linear(5, 3, bias=False))
    names = {"0.weight": "layers.0.weight", "0.bias": "layers.0.bias", "2.weight": "layers.2.weight"}
    freeze_module("sequential", chain, random(T, C), lambda named: {names[name]: named[name] for name in named}, chain)

    head = nn.ModuleDict({name: nn.Linear(C, D, bias=False) for name in ("query", "key", "value")})
    freeze_module(
        "head",
        head,
        random(B, T, C),
        dict,
        lambda x: F.scaled_dot_product_attention(*(part(x) for part in head.values()), is_causal=True),
    )

    mlp = LlamaMLP(llama)
    freeze_module("llama_mlp", mlp, random(B, T, C), dict, mlp)

    layers = nn.Sequential(nn.Linear(C, 5), nn.Tanh(), nn.Linear(5, 5), nn.Tanh(), nn.Linear(5, 3))

    def numbered(named: Named) -> Named:
        return {f"layers.{int(name[0]) // 2}{name[1:]}": value for name, value in named.items()}

    freeze_module("mlp", layers, random(T, C), numbered, layers)
    for case, function in (("relu", nn.ReLU()), ("gelu", nn.GELU()), ("sigmoid", nn.Sigmoid()), ("tanh", nn.Tanh())):
        freeze_module(f"module_{case}", function, 3 * random(4, C), dict, function)
    freeze_module("module_silu", nn.SiLU(), 3 * random(4, C), dict, nn.SiLU())
    freeze("mse_loss", F.mse_loss, {"predictions": random(4, C), "targets": random(4, C)})


torch.manual_seed(0)
functions()
modules()
np.savez_compressed(Path(__file__).parent / "layers.npz", allow_pickle=False, **frozen)
print(f"{len(frozen)} arrays, {sum(array.nbytes for array in frozen.values())} bytes")  # noqa: T201 - a script
