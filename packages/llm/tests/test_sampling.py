"""Filters against those of Hugging Face, draws against their probabilities."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from axone.llm import Sampling

FROZEN = Path(__file__).parent / "frozen" / "hugging_face_processors.npz"

# The value that a chi-square variable of n degrees of freedom exceeds with the probability 1e-4.
CHI_SQUARE = {3: 21.11, 15: 44.26}


def options_of(row: list[float]) -> dict[str, Any]:
    temperature, top_k, top_p, min_p, penalty = row
    return {
        "temperature": temperature,
        "top_k": int(top_k) or None,
        "top_p": top_p or None,
        "min_p": min_p or None,
        "repetition_penalty": penalty,
    }


def test_filters_leave_what_hugging_faces_leave_of_10000_rows() -> None:
    with np.load(FROZEN) as frozen:
        options, eighths, seen = frozen["options"], frozen["eighths"], frozen["seen"]
        left, scores = frozen["left"], frozen["scores"]
    assert eighths.shape[0] * eighths.shape[1] == 10_000
    tied = [len(set(row)) < len(row) for rows in eighths.tolist() for row in rows]
    assert sum(tied) > 9_000
    for number, row in enumerate(options.tolist()):
        sampling = Sampling(**options_of(row))
        logits = eighths[number].astype(np.float32) / 8
        ours = np.stack([sampling.filter(x, s) for x, s in zip(logits, seen[number])])
        theirs = np.unpackbits(left[number], axis=-1).astype(bool)
        # Which of several equal tokens top-p keeps depends on a sort that is not stable there: only how many is sure.
        penalized = np.stack([Sampling(**only_penalty(row)).filter(x, s) for x, s in zip(logits, seen[number])])
        np.testing.assert_array_equal(
            kept_values(penalized, np.isfinite(ours)), kept_values(penalized, theirs), str(row)
        )
        if not row[2]:
            np.testing.assert_array_equal(np.isfinite(ours), theirs, str(row))
        both = np.isfinite(ours[: len(scores[number])]) & theirs[: len(scores[number])]
        # A shift of all scores changes no probability: ours have their largest at zero.
        shifted = scores[number] - scores[number].max(axis=-1, keepdims=True)
        np.testing.assert_allclose(ours[: len(both)][both], shifted[both], rtol=1e-4, atol=1e-4)


def only_penalty(row: list[float]) -> dict[str, Any]:
    return {"temperature": 0.0, "repetition_penalty": row[4]}


def kept_values(rows: NDArray[Any], left: NDArray[Any]) -> NDArray[Any]:
    """Return the values that are left of each row, sorted."""
    return np.sort(np.where(left, rows, -np.inf), axis=-1)


@pytest.mark.parametrize(("options", "kept"), [({}, 16), ({"temperature": 1.5, "top_k": 4}, 4)])
def test_draws_follow_the_probabilities(options: dict[str, Any], kept: int) -> None:
    logits = np.log(np.array([0.3, 0.25, 0.2, 0.1, *([0.15 / 12] * 12)]))
    sampling, rng = Sampling(**options), np.random.default_rng(5)
    draws = np.bincount([sampling.choose(logits, [], rng) for _ in range(100_000)], minlength=16)
    wanted = np.exp(sampling.filter(logits, []))
    wanted *= 100_000 / wanted.sum()
    assert (draws[wanted == 0] == 0).all()
    assert np.count_nonzero(wanted) == kept
    statistic = ((draws - wanted)[wanted > 0] ** 2 / wanted[wanted > 0]).sum()
    assert statistic < CHI_SQUARE[kept - 1]


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("options", [{}, {"top_p": 0.9}, {"top_k": 2}, {"min_p": 0.1}])
def test_probabilities_are_numbers_at_any_temperature(temperature: float, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    rows = [np.array([1e4, -1e4, 0.0], np.float32), np.zeros(3, np.float32), np.array([3e38, -3e38, 1.0], np.float32)]
    rows += list(rng.normal(0, 100, (50, 3)).astype(np.float32))
    sampling = Sampling(temperature=temperature, **options)
    for row in rows:
        probabilities = np.exp(sampling.filter(row, []))
        probabilities /= probabilities.sum()
        assert np.isfinite(probabilities).all()
        assert sampling.choose(row, [], rng) in range(3)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"top_k": 2}, [0, 1]),
        ({"top_p": 0.75}, [0, 1]),
        ({"top_p": 0.81}, [0, 1, 2]),
        ({"min_p": 0.2}, [0, 1, 2]),
        ({"top_k": 3, "min_p": 0.5}, [0, 1]),
        ({"top_k": 99}, [0, 1, 2, 3]),
    ],
)
def test_filters_leave_what_they_should(options: dict[str, Any], left: list[int]) -> None:
    filtered = Sampling(**options).filter(np.log(np.array([0.5, 0.3, 0.15, 0.05])), [])
    assert np.flatnonzero(np.isfinite(filtered)).tolist() == left


def test_a_penalty_makes_what_occurred_less_probable() -> None:
    filtered = Sampling(repetition_penalty=2.0, temperature=0).filter(np.array([4.0, -1.0, 1.0]), [0, 1, 0])
    np.testing.assert_array_equal(filtered, [2.0, -2.0, 1.0])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"temperature": -1.0}, "temperature must be at least 0"),
        ({"temperature": float("nan")}, "temperature must be at least 0"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"top_p": 0.0}, r"top_p must be in \(0, 1\]"),
        ({"min_p": 1.5}, r"min_p must be in \[0, 1\]"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be positive"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Sampling(**options)
