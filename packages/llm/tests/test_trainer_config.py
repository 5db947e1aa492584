"""What a TrainerConfig takes, refuses and makes of what is left out."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from axone.llm import TrainerConfig

CONFIG = TrainerConfig(steps=12, batch_size=6, context_length=16, warmup_steps=3, workers=2)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steps": -1}, "steps must be at least 1, and is -1"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"clip": 0.0}, "clip must be positive"),
        ({"seed": -1}, "seed must not be negative"),
        ({"learning_rate": float("nan")}, "learning_rate must be finite, and is nan"),
        ({"clip": float("inf")}, "clip must be finite, and is inf"),
        ({"weight_decay": float("inf")}, "weight_decay must be finite"),
        ({"betas": (0.9, float("nan"))}, r"betas must be in \[0, 1\), and is \(0.9, nan\)"),
        ({"min_learning_rate": 1.0}, "min_learning_rate must be from 0 to learning_rate"),
        (
            {"warmup_steps": 13},
            "warmup_steps must be no more than steps, which are 12, and is 13: make the warm-up shorter",
        ),
    ],
)
def test_options_out_of_range_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        dataclasses.replace(CONFIG, **change)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steps": "12"}, "steps must be a whole number, and is '12'"),
        ({"batch_size": 2.5}, "batch_size must be a whole number, and is 2.5"),
        ({"seed": True}, "seed must be a whole number, and is True"),
        ({"learning_rate": "1e-3"}, "learning_rate must be a number, and is '1e-3'"),
    ],
)
def test_options_of_another_type_are_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(TypeError, match=reason):
        dataclasses.replace(CONFIG, **change)


def test_numbers_of_numpy_become_those_of_python() -> None:
    given: dict[str, Any] = {"steps": np.int64(9), "learning_rate": np.float32(0.5)}
    changed = dataclasses.replace(CONFIG, **given)
    assert (type(changed.steps), type(changed.learning_rate)) == (int, float)


def test_a_short_training_warms_up_for_a_tenth_of_it_and_any_for_as_long_as_is_said() -> None:
    left_out = dataclasses.replace(CONFIG, warmup_steps=None)
    warmups = [dataclasses.replace(left_out, steps=steps).warmup for steps in (1, 50, 1000, 5000)]
    assert warmups == [0, 5, 100, 100]
    assert dataclasses.replace(CONFIG, warmup_steps=12).warmup == 12


def test_a_batch_of_fewer_windows_than_there_are_threads_is_not_shared_out() -> None:
    shared = [dataclasses.replace(CONFIG, batch_size=6, workers=workers) for workers in (1, 6, 7, 400)]
    assert [(config.threads, config.replicas) for config in shared] == [(1, 1), (6, 6), (7, 1), (400, 1)]
