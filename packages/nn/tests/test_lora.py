"""LoRALinear: values and gradients against PEFT, frozen weights, merging, and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.autograd.testing import check_grads
from axone.nn import LayerNorm, Linear, LoRALinear, MultiHeadAttention, RMSNorm, init
from axone.nn import functional as F  # noqa: N812 - PyTorch's name for it
from axone.nn.functional.lora import lora_linear

Arrays = dict[str, NDArray[Any]]


def read() -> dict[str, dict[str, Arrays]]:
    """Return the arrays of `frozen/make_frozen_lora.py` by case, part and name."""
    cases: dict[str, dict[str, Arrays]] = {}
    with np.load(Path(__file__).parent / "frozen" / "lora.npz", allow_pickle=False) as archive:
        for path in archive.files:
            case, part, name = path.split("/")
            cases.setdefault(case, {}).setdefault(part, {})[name] = archive[path]
    return cases


FROZEN = read()


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def adapted(rank: int = 2, **options: Any) -> LoRALinear:
    layer = LoRALinear(Linear(8, 6, rng=np.random.default_rng(0)), rank, rng=np.random.default_rng(1), **options)
    layer.lora_B.data[...] = random(6, rank)
    return layer


@pytest.mark.parametrize("case", FROZEN)
def test_values_gradients_and_the_merged_weight_are_those_of_peft(case: str) -> None:
    parts = FROZEN[case]
    given = parts["constant"]
    layer = LoRALinear(
        Linear(8, 6, bias="bias" in parts["parameter"]),
        int(given["rank"]),
        alpha=float(given["alpha"]),
        rslora=bool(given["rslora"]),
    )
    layer.load_state_dict(parts["parameter"])
    x = Tensor(parts["input"]["x"], requires_grad=True)
    out = layer(x)
    np.testing.assert_allclose(out.data, parts["output"]["y"], rtol=1.3e-6, atol=1e-5)
    out.backward(parts["output"]["g"])
    leaves = {"x": x, "lora_A": layer.lora_A, "lora_B": layer.lora_B}
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        np.testing.assert_allclose(leaf.grad, parts["gradient"][name], rtol=1.3e-6, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(layer.merge().weight.data, parts["merged"]["weight"], rtol=1e-6, atol=1e-6)


def test_a_new_adapter_changes_nothing_and_wraps_the_same_parameters() -> None:
    linear = Linear(8, 6)
    layer, x = LoRALinear(linear, 3), Tensor(random(4, 8))
    np.testing.assert_array_equal(layer(x).data, linear(x).data)
    assert layer.weight is linear.weight
    assert layer.bias is linear.bias
    assert np.abs(layer.lora_A.data).max() <= 8**-0.5
    assert layer.lora_A.data.any()


def test_the_frozen_weight_gets_no_gradient() -> None:
    layer = adapted()
    layer(Tensor(random(4, 8), requires_grad=True)).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias is not None
    assert layer.bias.grad is None
    assert layer.lora_A.grad is not None
    assert layer.lora_B.grad is not None


def test_on_off_and_merged_agree() -> None:
    layer, x = adapted(alpha=5.0).astype(np.float64), random(7, 8, dtype=np.float64)
    expected = layer(Tensor(x)).data
    merged = layer.merge()
    assert type(merged) is Linear
    assert all(parameter.requires_grad for parameter in merged.parameters())
    np.testing.assert_allclose(merged(Tensor(x)).data, expected, atol=1e-12)
    layer.lora_B.data[...] = 0
    assert layer.bias is not None
    np.testing.assert_array_equal(layer(Tensor(x)).data, x @ layer.weight.data.T + layer.bias.data)


def test_merging_leaves_the_adapted_layer_as_it_is() -> None:
    layer = adapted()
    before = {name: array.copy() for name, array in layer.state_dict().items()}
    merged = layer.merge()
    merged.weight.data += 1
    assert merged.bias is not None
    merged.bias.data += 1
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_dropout_drops_the_input_of_the_low_rank_product_alone() -> None:
    layer = adapted(dropout=0.5)
    x = Tensor(random(50, 8))
    noisy = layer(x).data
    assert not np.array_equal(noisy, layer.eval()(x).data)
    layer.train().lora_B.data[...] = 0
    np.testing.assert_array_equal(layer(x).data, layer.eval()(x).data)


def test_gradients_with_dropout_equal_finite_differences() -> None:
    arrays = [random(5, 8, dtype=np.float64), random(6, 8), random(2, 8, seed=1), random(6, 2, seed=2)]
    inputs = [Tensor(array.astype(np.float64), requires_grad=True) for array in arrays]
    check_grads(lambda *t: lora_linear(*t, scale=1.5, dropout=0.4, rng=np.random.default_rng(2)), inputs)


def test_adapters_of_a_fused_projection_are_those_of_its_parts() -> None:
    """The rows of B belong to queries, keys and values: PEFT's three adapters with one A give the same product."""
    attention = MultiHeadAttention(8, 4, num_kv_heads=2, bias=False)
    layer = LoRALinear(attention.qkv_proj, 2, alpha=4)
    layer.lora_B.data[...] = random(16, 2)
    attention.qkv_proj = layer
    x = random(2, 3, 8)
    fused = layer(Tensor(x)).data
    for rows in attention.qkv_rows(slice(0, 2)):
        part = LoRALinear(Linear(8, rows.stop - rows.start, bias=False), 2, alpha=4)
        part.load_state_dict(
            {"weight": layer.weight.data[rows], "lora_A": layer.lora_A.data, "lora_B": layer.lora_B.data[rows]}
        )
        np.testing.assert_allclose(part(Tensor(x)).data, fused[..., rows], atol=1e-6)
    assert attention(Tensor(x)).shape == x.shape


def test_an_adapter_can_be_built_without_memory() -> None:
    with init.skip():
        layer = LoRALinear(Linear(1_000_000, 1_000_000), 1)
    assert init.is_meta(layer.lora_A.data)
    assert layer.lora_B.shape == (1_000_000, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, r"rank \(0\) of LoRALinear must be at least 1"),
        ({"rank": 2, "alpha": 0}, r"alpha \(0\) of LoRALinear must be a positive number"),
        ({"rank": 2, "alpha": float("nan")}, r"alpha \(nan\) of LoRALinear must be a positive number"),
        ({"rank": 2, "dropout": 1.0}, r"p \(1.0\) must be in \[0, 1\)"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LoRALinear(Linear(8, 6), **options)


def test_a_second_adapter_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has an adapter already: merge it first"):
        LoRALinear(adapted(), 2)


def test_shapes_that_do_not_fit_are_refused() -> None:
    x, w, a, b = (Tensor(random(*shape)) for shape in ((5, 8), (6, 8), (2, 7), (6, 2)))
    with pytest.raises(ValueError, match=r"lora_A of shape \(2, 7\) and lora_B of shape \(6, 2\) must have shapes"):
        lora_linear(x, w, a, b)
    with pytest.raises(ValueError, match=r"dropout \(0.5\) needs rng"):
        lora_linear(x, w, Tensor(random(2, 8)), b, dropout=0.5)


FROZEN_LAYERS: dict[str, Any] = {
    "linear": lambda: Linear(8, 6),
    "layer_norm": lambda: LayerNorm(8),
    "rms_norm": lambda: RMSNorm(8),
    "attention": lambda: MultiHeadAttention(8, 2, qk_norm=True),
}


@pytest.mark.parametrize("name", FROZEN_LAYERS)
def test_frozen_parameters_get_no_gradient_and_inputs_keep_theirs(name: str) -> None:
    layer, x = FROZEN_LAYERS[name](), random(2, 3, 8)
    grads: list[Any] = []
    for trained in (True, False):
        for parameter in layer.parameters():
            parameter.requires_grad, parameter.grad = trained, None
        leaf = Tensor(x, requires_grad=True)
        out = layer(leaf)
        out.backward(random(*out.shape, seed=4))
        assert all((parameter.grad is not None) == trained for parameter in layer.parameters())
        grads.append(leaf.grad)
    np.testing.assert_array_equal(*grads)


def test_a_frozen_output_layer_gets_no_gradient_from_the_fused_loss() -> None:
    x, targets = random(6, 4), np.arange(6) % 5
    grads: list[Any] = []
    for trained in (True, False):
        leaf, weight = Tensor(x, requires_grad=True), Tensor(random(5, 4, seed=1), requires_grad=trained)
        (F.linear_cross_entropy(leaf, weight, targets, rows=4) * 2.0).backward()
        assert (weight.grad is not None) == trained
        grads.append(leaf.grad)
    np.testing.assert_array_equal(*grads)
