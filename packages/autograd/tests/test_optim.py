"""Optimizers: options, parameter groups, state, Values; gradient clipping and schedules."""

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from axone.autograd import Tensor, Value
from axone.autograd.optim import (
    SGD,
    Adam,
    AdamW,
    Muon,
    Optimizer,
    clip_grad_norm,
    cosine,
    linear_decay,
    split_matrices,
    trapezoid,
)
from axone.autograd.optim.optimizer import BLOCK

MAKERS: dict[str, Callable[[Any], Optimizer]] = {
    "SGD": lambda params: SGD(params, lr=0.1),
    "SGD with momentum": lambda params: SGD(params, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "Adam": lambda params: Adam(params, lr=0.1),
    "AdamW": lambda params: AdamW(params, lr=0.1),
    "Muon": lambda params: Muon(params, lr=0.1),
}
every_optimizer = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def parameters(dtype: type = np.float32) -> list[Tensor]:
    rng = np.random.default_rng(0)
    return [Tensor(rng.normal(size=shape).astype(dtype), requires_grad=True) for shape in ((3, 4), (4, 2))]


def train(optimizer: Optimizer, params: list[Tensor], steps: Iterable[int]) -> None:
    for step in steps:
        x = Tensor(np.random.default_rng(step).normal(size=(5, 3)).astype(np.float32))
        optimizer.zero_grad()
        optimizer.lr = cosine(step, max_lr=0.1, min_lr=0.01, warmup_steps=3, total_steps=20)
        ((x @ params[0]) @ params[1] - 1.0).var().backward()
        optimizer.step()


@every_optimizer
def test_a_resumed_optimizer_continues_with_the_same_bits(make: Callable[[Any], Optimizer]) -> None:
    whole = parameters()
    train(make(whole), whole, range(20))

    part = parameters()
    first = make(part)
    train(first, part, range(7))
    state = {name: array.copy() for name, array in first.state_dict().items()}
    resumed = [Tensor(p.data.copy(), requires_grad=True) for p in part]
    second = make(resumed)
    second.load_state_dict(state)
    train(second, resumed, range(7, 20))
    for p, q in zip(whole, resumed):
        assert p.data.tobytes() == q.data.tobytes()


@every_optimizer
def test_the_loss_falls(make: Callable[[Any], Optimizer]) -> None:
    p = Tensor(np.full((2, 2), 3.0), requires_grad=True)
    optimizer = make([p])
    losses = []
    for _ in range(120):
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses) < 0.05 * losses[0]


@pytest.mark.parametrize("make", [m for name, m in MAKERS.items() if name != "Muon"])
def test_values_are_updated_as_tensors_are(make: Callable[[Any], Optimizer]) -> None:
    numbers = [0.5, -1.0, 2.0]
    values = [Value(x) for x in numbers]
    tensor = Tensor(np.array(numbers), requires_grad=True)
    on_values, on_tensor = make(values), make([tensor])
    for _ in range(5):
        on_values.zero_grad()
        sum(((v - 1) ** 2 for v in values), Value(0)).backward()
        on_values.step()
        on_tensor.zero_grad()
        ((tensor - 1) ** 2).sum().backward()
        on_tensor.step()
    np.testing.assert_array_equal([v.data for v in values], tensor.data)
    assert all(type(v.data) is float for v in values)
    assert {name: array.shape for name, array in on_values.state_dict().items()} == {
        name: array.shape for name, array in on_tensor.state_dict().items()
    }


def test_repr_shows_the_options_of_each_group() -> None:
    w, b = Tensor([[1.0]], requires_grad=True), Tensor([1.0], requires_grad=True)
    assert repr(AdamW([w, b])) == "AdamW(2 parameters, lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.01)"
    assert repr(SGD([Value(1.0)], lr=0.5)) == "SGD(1 parameter, lr=0.5, momentum=0, nesterov=False, weight_decay=0)"
    groups = SGD([{"params": [w], "lr": 0.1}, {"params": [b], "lr_scale": 2.0}], lr=1.0)
    assert repr(groups).splitlines() == [
        "SGD(",
        "    1 parameter, lr=0.1, momentum=0, nesterov=False, weight_decay=0,",
        "    1 parameter, lr=2, momentum=0, nesterov=False, weight_decay=0, lr_scale=2,",
        ")",
    ]


def test_groups_have_options_of_their_own() -> None:
    a, b, c = (Tensor([1.0], requires_grad=True) for _ in range(3))
    for p in (a, b, c):
        p.grad = np.ones(1, np.float32)
    optimizer = SGD([{"params": [a]}, {"params": [b], "lr_scale": 0.5}, {"params": [c], "lr": 0.3}], lr=0.1)
    assert [group["lr"] for group in optimizer.groups] == [0.1, 0.05, 0.3]
    optimizer.step()
    np.testing.assert_allclose([p.item() for p in (a, b, c)], [0.9, 0.95, 0.7], rtol=1e-6)
    optimizer.lr = 0.2
    assert [group["lr"] for group in optimizer.groups] == [0.2, 0.1, 0.2]
    assert optimizer.lr == 0.2


def test_a_parameter_without_a_gradient_is_unchanged() -> None:
    used, unused = Tensor([1.0], requires_grad=True), Tensor([1.0], requires_grad=True)
    optimizer = AdamW([used, unused])
    used.grad = np.ones(1, np.float32)
    optimizer.step()
    assert unused.item() == 1.0
    assert used.item() < 1.0


@every_optimizer
def test_a_parameter_unfrozen_late_is_updated_as_by_an_optimizer_of_its_own(make: Callable[[Any], Optimizer]) -> None:
    rng = np.random.default_rng(0)
    early, late, alone = (Tensor(np.ones((2, 2)), requires_grad=True) for _ in range(3))
    together, separate = make([early, late]), make([alone])
    for step in range(30):
        gradient = rng.normal(size=(2, 2))
        early.grad = gradient
        if step >= 20:
            late.grad, alone.grad = gradient, gradient
            separate.step()
        together.step()
    np.testing.assert_array_equal(late.data, alone.data)
    assert (late.data != early.data).all()


@every_optimizer
def test_steps_of_each_parameter_survive_a_save(make: Callable[[Any], Optimizer]) -> None:
    params = parameters(np.float64)
    optimizer = make(params)
    for step in range(5):
        params[0].grad = np.ones((3, 4))
        params[1].grad = np.ones((4, 2)) if step >= 3 else None
        optimizer.step()
    state = {name: array.copy() for name, array in optimizer.state_dict().items()}
    np.testing.assert_array_equal(state["steps"], [5, 2])
    again = [Tensor(p.data.copy(), requires_grad=True) for p in params]
    resumed = make(again)
    resumed.load_state_dict(state)
    for p in (*params, *again):
        p.grad = np.ones(p.shape)
    optimizer.step()
    resumed.step()
    for p, q in zip(params, again):
        np.testing.assert_array_equal(p.data, q.data)


@every_optimizer
def test_a_state_with_one_step_count_for_all_parameters_is_loaded(make: Callable[[Any], Optimizer]) -> None:
    params = parameters()
    optimizer = make(params)
    train(optimizer, params, range(4))
    state = optimizer.state_dict()
    old = {**state, "steps": np.asarray(4)}  # as written before each parameter had its own
    resumed = make(params)
    resumed.load_state_dict(old)
    np.testing.assert_array_equal(resumed.state_dict()["steps"], [4, 4])


def test_a_flat_buffer_stays_bound() -> None:
    flat, gradient = np.ones(6, np.float32), np.zeros(6, np.float32)
    params = [Tensor(flat[:4].reshape(2, 2), requires_grad=True), Tensor(flat[4:], requires_grad=True)]
    params[0].grad, params[1].grad = gradient[:4].reshape(2, 2), gradient[4:]
    optimizer = SGD(params, lr=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        ((params[0] @ params[0]).sum() + params[1].sum()).backward()
        optimizer.step()
    np.testing.assert_array_equal(gradient[4:], [1.0, 1.0])
    np.testing.assert_array_equal(flat[4:], [0.0, 0.0])
    np.testing.assert_array_equal(gradient[:4], [-4.0] * 4)  # 2 + 2 of weights at -1 after the first step


def test_blocks_can_run_in_several_threads() -> None:
    rng = np.random.default_rng(0)
    start, gradient = rng.normal(size=(2, 2 * BLOCK + 7))
    ends: list[NDArray[Any]] = []
    with ThreadPoolExecutor(2) as pool:
        for parallel in (None, lambda function, items: list(pool.map(function, items))):
            p = Tensor(start.copy(), requires_grad=True)
            p.grad = gradient
            optimizer = AdamW([p], lr=0.1)
            optimizer.step() if parallel is None else optimizer.step(parallel=parallel)
            ends.append(p.data)
    np.testing.assert_array_equal(ends[0], ends[1])
    assert (ends[0] != start).all()


def test_split_matrices_separates_hidden_matrices_from_the_rest() -> None:
    named = {
        "embedding.weight": Tensor(np.ones((9, 4)), requires_grad=True),
        "blocks.0.weight": Tensor(np.ones((4, 4)), requires_grad=True),
        "blocks.0.bias": Tensor(np.ones(4), requires_grad=True),
    }
    matrices, rest = split_matrices(named.items(), exclude=["embedding"])
    assert matrices == [named["blocks.0.weight"]]
    assert [id(p) for p in rest] == [id(named["embedding.weight"]), id(named["blocks.0.bias"])]


@pytest.mark.parametrize(
    ("misuse", "message"),
    [
        (lambda _: SGD([], lr=0.1), "params is empty: an optimizer needs at least one parameter"),
        (lambda p: SGD([p, p], lr=0.1), "parameter 1 is given twice: pass each parameter once"),
        (
            lambda p: SGD([p, Tensor([1.0])], lr=0.1),
            "parameter 1 does not require gradients: create it with requires_grad=True",
        ),
        (lambda p: SGD([p], lr=-0.1), "lr (-0.1) must not be negative"),
        (lambda p: SGD([p], lr=0.1, momentum=1.0), "momentum (1.0) must be in [0, 1)"),
        (
            lambda p: SGD([p], lr=0.1, nesterov=True),
            "nesterov=True needs a momentum above 0",
        ),
        (lambda p: Adam([p], betas=(0.9, 1.0)), "betas must be two numbers in [0, 1), got (0.9, 1.0)"),
        (
            lambda p: AdamW([p], betas=(0.9,)),  # type: ignore[arg-type]  # the misuse under test
            "betas must be two numbers in [0, 1), got (0.9,)",
        ),
        (
            lambda p: AdamW([p], betas="09"),  # type: ignore[arg-type]  # the misuse under test
            "betas must be two numbers in [0, 1), got '09'",
        ),
        (
            lambda p: AdamW([{"params": [p], "decay": 1}]),
            (
                "options of a parameter group must be among ['betas', 'eps', 'lr', 'lr_scale', 'weight_decay'], got "
                "['decay']"
            ),
        ),
        (
            lambda p: SGD([{"params": [p], "lr_scale": 0}], lr=0.1),
            "lr_scale (0) must be positive: leave out parameters that should not change",
        ),
        (
            lambda p: SGD([p, Value(1.0)], lr=0.1),
            "a parameter group must hold Tensors only or Values only, got ['Tensor', 'Value']",
        ),
        (
            lambda p: Muon([p]),
            "Muon needs matrices, got a parameter of shape (2,): pass it to AdamW, see split_matrices",
        ),
        (
            lambda _: Muon([Value(1.0)]),
            "Muon needs matrices, got a Value: pass it to AdamW, see split_matrices",
        ),
        (
            lambda p: AdamW([p]).load_state_dict(
                {"steps": np.ones(1, int), "0.first_moment": np.ones(3), "x": np.ones(1)}
            ),
            (
                "the state does not fit the optimizer: 0.second_moment is missing; x is unexpected; 0.first_moment has "
                "shape (3,), it must have (2,)"
            ),
        ),
        (lambda p: clip_grad_norm([p], 0), "max_norm (0) must be positive"),
        (
            lambda _: cosine(-1, max_lr=1, min_lr=0, warmup_steps=0, total_steps=1),
            "step (-1) and warmup_steps (0) must not be negative, and total_steps (1) must be positive",
        ),
    ],
)
def test_misuse(misuse: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared
        misuse(Tensor([1.0, 2.0], requires_grad=True))
    assert str(raised.value) == message


def test_clipping() -> None:
    a, b, unused = (Tensor([1.0], requires_grad=True) for _ in range(3))
    a.grad, b.grad = np.array([3.0], np.float32), np.array([4.0], np.float32)
    assert clip_grad_norm([a, b, unused], np.inf) == 5.0
    assert clip_grad_norm([a, b, unused], 1.0) == 5.0
    np.testing.assert_allclose([a.grad[0], b.grad[0]], [0.6, 0.8], rtol=1e-6)
    assert clip_grad_norm((p for p in (a, b)), 2.0) == pytest.approx(1.0)
    np.testing.assert_allclose([a.grad[0], b.grad[0]], [0.6, 0.8], rtol=1e-6)
    b.grad = np.array([np.inf], np.float32)
    assert clip_grad_norm([a, b], 1.0) == np.inf
    assert a.grad[0] == np.float32(0.6)


@pytest.mark.parametrize("schedule", [cosine, linear_decay])
def test_schedules(schedule: Callable[..., float]) -> None:
    rates = [schedule(step, max_lr=1.0, min_lr=0.1, warmup_steps=5, total_steps=50) for step in range(60)]
    np.testing.assert_allclose(rates[:5], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-12)
    assert all(earlier > later for earlier, later in itertools.pairwise(rates[4:50]))
    assert rates[49] == pytest.approx(0.1)
    assert rates[50:] == [rates[49]] * 10
    assert schedule(0, max_lr=1.0, min_lr=0.1, warmup_steps=0, total_steps=10) == 1.0


def test_a_trapezoid_has_the_rates_of_a_longer_one_up_to_its_cooldown() -> None:
    options: dict[str, Any] = {"max_lr": 1.0, "min_lr": 0.1, "warmup_steps": 5, "cooldown_steps": 10}
    rates = [trapezoid(step, total_steps=50, **options) for step in range(60)]
    np.testing.assert_allclose(rates[:5], [0.2, 0.4, 0.6, 0.8, 1.0], rtol=1e-12)
    assert rates[5:40] == [1.0] * 35
    np.testing.assert_allclose(rates[40:50], np.linspace(1, 0.1, 11)[1:], rtol=1e-12)
    assert rates[50:] == [rates[49]] * 10
    assert [trapezoid(step, total_steps=90, **options) for step in range(40)] == rates[:40]
    assert trapezoid(0, max_lr=1.0, min_lr=0.1, warmup_steps=0, cooldown_steps=0, total_steps=1) == 1.0
    with pytest.raises(ValueError, match=r"^cooldown_steps \(-1\) must not be negative$"):
        trapezoid(0, max_lr=1.0, min_lr=0.1, warmup_steps=0, cooldown_steps=-1, total_steps=1)


def test_state_arrays_can_be_relocated() -> None:
    weight, twin = (Tensor(np.arange(4.0), requires_grad=True) for _ in range(2))
    moved, plain = AdamW([weight]), AdamW([twin])
    shared = [np.full(4, np.nan) for _ in AdamW.state_names]
    targets = iter(shared)

    def move(array: NDArray[Any]) -> NDArray[Any]:
        target = next(targets)
        target[...] = array
        return target

    for step in range(4):
        if step == 2:
            moved.relocate(move)
        for parameter, optimizer in ((weight, moved), (twin, plain)):
            parameter.grad = np.ones(4) * (step + 1)
            optimizer.step()
    np.testing.assert_array_equal(weight.data, twin.data)
    for name, array in zip(AdamW.state_names, shared):
        assert moved.state_dict()[f"0.{name}"] is array
        np.testing.assert_array_equal(array, plain.state_dict()[f"0.{name}"])


@pytest.mark.parametrize(
    ("dtype", "size"),
    [(np.float16, 6e4), (np.float16, 1e-4), (np.float32, 1e30), (np.float64, 1e160), (np.float64, 1e154)],
)
def test_a_norm_whose_squares_overflow_is_measured_and_clipped(dtype: type, size: float) -> None:
    a, b = (Tensor(np.ones(100, dtype), requires_grad=True) for _ in range(2))
    a.grad, b.grad = (np.full(100, size, dtype) for _ in range(2))
    norm = np.sqrt(200) * float(dtype(size))
    assert clip_grad_norm([a, b], norm / 4) == pytest.approx(norm, rel=1e-6)
    for p in (a, b):
        assert p.grad is not None
        np.testing.assert_allclose(p.grad, np.full(100, dtype(size) / 4), rtol=2e-3)
    assert clip_grad_norm([a, b], np.inf) == pytest.approx(norm / 4, rel=2e-3)


def test_a_float16_gradient_is_clipped_by_a_scale_that_float16_cannot_hold() -> None:
    p = Tensor(np.ones(4, np.float16), requires_grad=True)
    p.grad = np.full(4, 6e4, np.float16)
    clip_grad_norm([p], 1e-3)
    assert p.grad is not None
    np.testing.assert_allclose(p.grad, np.full(4, 5e-4), rtol=1e-3)
