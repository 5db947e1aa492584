"""TrainerConfig: checks of its fields, and its defaults."""

import dataclasses
import re
from typing import Any

import numpy as np
import pytest

from axone.llm import TrainerConfig

CONFIG = TrainerConfig(steps=12, batch_size=6, context_length=16, warmup_steps=3, workers=2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steps": -1}, "steps (-1) must be at least 1"),
        ({"workers": 0}, "workers (0) must be at least 1"),
        ({"workers": 100_000}, "workers (100000) must be at most 1024"),
        ({"max_grad_norm": 0.0}, "max_grad_norm (0.0) must be positive"),
        ({"max_grad_norm": float("inf")}, "max_grad_norm (inf) must be finite"),
        ({"seed": -1}, "seed (-1) must not be negative"),
        ({"learning_rate": float("nan")}, "learning_rate (nan) must be finite"),
        ({"weight_decay": float("inf")}, "weight_decay (inf) must be finite"),
        ({"betas": (0.9, float("nan"))}, "betas (0.9, nan) must be in [0, 1)"),
        ({"momentum": 1.0}, "momentum (1.0) must be in [0, 1)"),
        ({"schedule": "step"}, "schedule ('step') must be 'cosine' or 'linear' or 'trapezoid' or 'constant'"),
        ({"cooldown": 0.0}, "cooldown (0.0) must be in (0, 1]"),
        ({"average": 1.5}, "average (1.5) must be in [0, 1]"),
        ({"calibration": 0.6}, "calibration (0.6) must be in [0, 0.5]"),
        ({"sampling": "sorted"}, "sampling ('sorted') must be 'random' or 'epoch'"),
        ({"min_learning_rate": 1.0}, "min_learning_rate (1.0) must be between 0 and learning_rate (0.001)"),
        (
            {"warmup_steps": 13},
            "warmup_steps (13) must be at most steps (12): shorten the warm-up or lengthen the training",
        ),
    ],
)
def test_options_out_of_range_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(reason)}$"):
        dataclasses.replace(CONFIG, **change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steps": "12"}, "steps ('12') must be a whole number"),
        ({"batch_size": 2.5}, "batch_size (2.5) must be a whole number"),
        ({"seed": True}, "seed (True) must be a whole number"),
        ({"seed": None}, "seed (None) must be a whole number"),
        ({"learning_rate": "1e-3"}, "learning_rate ('1e-3') must be a number"),
        ({"betas": (0.9,)}, "betas ((0.9,)) must be 2 values, each a number"),
        ({"betas": "0.9"}, "betas ('0.9') must be 2 values, each a number"),
        ({"betas": (0.9, "x")}, "betas ((0.9, 'x')) must be 2 values, each a number"),
        ({"betas": 0.9}, "betas (0.9) must be 2 values, each a number"),
    ],
)
def test_options_of_another_type_are_refused(change: dict[str, Any], reason: str) -> None:
    """betas=(0.9,) was an IndexError, and betas="0.9" a TypeError of `<=`."""
    with pytest.raises(TypeError, match=f"^{re.escape(reason)}$"):
        dataclasses.replace(CONFIG, **change)


def test_numbers_of_numpy_become_those_of_python() -> None:
    given: dict[str, Any] = {"steps": np.int64(19), "learning_rate": np.float32(0.5), "betas": [np.float64(0.5), 0]}
    changed = dataclasses.replace(CONFIG, **given)
    assert (type(changed.steps), type(changed.learning_rate)) == (int, float)
    assert (changed.betas, [type(beta) for beta in changed.betas]) == ((0.5, 0), [float, int])


def test_the_default_warm_up_is_100_steps_or_a_tenth() -> None:
    default = dataclasses.replace(CONFIG, warmup_steps=None)
    warmups = [dataclasses.replace(default, steps=steps).warmup for steps in (1, 50, 1000, 5000)]
    assert warmups == [0, 5, 100, 100]
    assert dataclasses.replace(CONFIG, warmup_steps=12).warmup == 12


def test_a_batch_of_fewer_sequences_than_workers_has_one_replica() -> None:
    configs = [dataclasses.replace(CONFIG, batch_size=6, workers=workers) for workers in (1, 6, 7, 400)]
    assert [(config.num_workers, config.num_replicas) for config in configs] == [(1, 1), (6, 6), (7, 1), (400, 1)]
