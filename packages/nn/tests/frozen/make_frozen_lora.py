"""Compute values and gradients of linear layers with an adapter with PEFT, and save them in ``lora.npz``.

Run with a Python that has it (made with PyTorch 2.13 and PEFT 0.21)::

    python packages/nn/tests/frozen/make_frozen_lora.py

An array's name is ``CASE/PART/NAME``, as in ``layers.npz``. ``merged/weight`` is the weight after PEFT's merge.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch  # type: ignore[import-not-found]  # a peer, which our environment does not have
from peft import LoraConfig, get_peft_model  # type: ignore[import-not-found]  # likewise

frozen: dict[str, np.ndarray] = {}


def freeze(case: str, *, rank: int, alpha: float, rslora: bool, bias: bool) -> None:
    """Run a layer of 8 to 6 features with an adapter; keep values, gradients and the merged weight."""
    base = torch.nn.Sequential(torch.nn.Linear(8, 6, bias=bias))
    config = LoraConfig(r=rank, lora_alpha=alpha, use_rslora=rslora, target_modules=["0"])
    model = get_peft_model(base, config)
    layer = model.base_model.model[0]
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    for parameter in (layer.base_layer.weight, a, b):
        torch.nn.init.normal_(parameter, std=0.5)
    x = torch.randn(3, 5, 8, requires_grad=True)
    y = model(x)
    g = torch.randn_like(y)
    y.backward(g)
    parameters = {"weight": layer.base_layer.weight, "lora_A": a, "lora_B": b}
    if bias:
        parameters["bias"] = layer.base_layer.bias
    parts = {
        "input": {"x": x},
        "parameter": parameters,
        "output": {"y": y, "g": g},
        "gradient": {"x": x.grad, "lora_A": a.grad, "lora_B": b.grad},
        "constant": {"rank": torch.tensor(rank), "alpha": torch.tensor(alpha), "rslora": torch.tensor(rslora)},
    }
    for part, named in parts.items():
        for name, value in named.items():
            frozen[f"{case}/{part}/{name}"] = value.detach().numpy().copy()
    layer.merge()
    frozen[f"{case}/merged/weight"] = layer.base_layer.weight.detach().numpy()


torch.manual_seed(0)
freeze("alpha_over_r", rank=2, alpha=6.0, rslora=False, bias=True)
freeze("alpha_over_root_r", rank=4, alpha=6.0, rslora=True, bias=False)
np.savez_compressed(Path(__file__).parent / "lora.npz", allow_pickle=False, **frozen)
print(f"{len(frozen)} arrays, {sum(array.nbytes for array in frozen.values())} bytes")  # noqa: T201 - a script
