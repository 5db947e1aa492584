"""Filters against those of Hugging Face, draws against their probabilities."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from axone.llm import SamplingConfig

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


def test_filters_keep_the_tokens_that_hugging_face_keeps_in_10000_rows() -> None:
    with np.load(FROZEN) as frozen:
        options, eighths, seen = frozen["options"], frozen["eighths"], frozen["seen"]
        left, scores = frozen["left"], frozen["scores"]
    assert eighths.shape[0] * eighths.shape[1] == 10_000
    tied = [len(set(row)) < len(row) for rows in eighths.tolist() for row in rows]
    assert sum(tied) > 9_000
    for number, row in enumerate(options.tolist()):
        sampling = SamplingConfig(**options_of(row))
        logits = eighths[number].astype(np.float32) / 8
        ours = np.stack([sampling.filter(x, s) for x, s in zip(logits, seen[number])])
        theirs = np.unpackbits(left[number], axis=-1).astype(bool)
        # Hugging Face's sort is not stable: only the number of equal tokens that top-p keeps is certain.
        penalized = np.stack([SamplingConfig(**only_penalty(row)).filter(x, s) for x, s in zip(logits, seen[number])])
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
    """Return the kept values of each row, sorted."""
    return np.sort(np.where(left, rows, -np.inf), axis=-1)


@pytest.mark.parametrize(("options", "kept"), [({}, 16), ({"temperature": 1.5, "top_k": 4}, 4)])
def test_draws_follow_the_probabilities(options: dict[str, Any], kept: int) -> None:
    logits = np.log(np.array([0.3, 0.25, 0.2, 0.1, *([0.15 / 12] * 12)]))
    sampling, rng = SamplingConfig(**options), np.random.default_rng(5)
    draws = np.bincount([sampling.choose(logits, [], rng) for _ in range(100_000)], minlength=16)
    wanted = np.exp(sampling.filter(logits, []))
    wanted *= 100_000 / wanted.sum()
    assert (draws[wanted == 0] == 0).all()
    assert np.count_nonzero(wanted) == kept
    statistic = ((draws - wanted)[wanted > 0] ** 2 / wanted[wanted > 0]).sum()
    assert statistic < CHI_SQUARE[kept - 1]


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("options", [{}, {"top_p": 0.9}, {"top_k": 2}, {"min_p": 0.1}])
def test_probabilities_are_finite_at_any_temperature(temperature: float, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    rows = [np.array([1e4, -1e4, 0.0], np.float32), np.zeros(3, np.float32), np.array([3e38, -3e38, 1.0], np.float32)]
    rows += list(rng.normal(0, 100, (50, 3)).astype(np.float32))
    sampling = SamplingConfig(temperature=temperature, **options)
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
def test_filters_keep_the_expected_tokens(options: dict[str, Any], left: list[int]) -> None:
    filtered = SamplingConfig(**options).filter(np.log(np.array([0.5, 0.3, 0.15, 0.05])), [])
    assert np.flatnonzero(np.isfinite(filtered)).tolist() == left


def kept_by_sorting_all(logits: NDArray[Any], p: float) -> list[int]:
    """Return the tokens that top-p keeps, by its definition."""
    rising = np.argsort(logits, kind="stable")
    probabilities = np.exp(logits - logits.max())
    dropped = np.cumsum(probabilities[rising] / probabilities.sum()) <= 1 - p
    dropped[-1] = False
    return sorted(rising[~dropped].tolist())


@pytest.mark.parametrize("size", [1, 2, 7, 256, 257, 3000, 50257])
@pytest.mark.parametrize("steps", [1, 4, 1000])  # few steps: many equal scores
def test_top_p_keeps_the_tokens_that_sorting_all_keeps(size: int, steps: int) -> None:
    rng = np.random.default_rng(size + steps)
    for spread in (0.01, 3.0, 40.0):
        logits = np.round(rng.normal(0, 1, size) * steps) / steps * spread
        for p in (1e-9, 0.1234, 0.9, 0.99987, rng.uniform()):
            filtered = SamplingConfig(top_p=p).filter(logits, [])
            assert np.flatnonzero(np.isfinite(filtered)).tolist() == kept_by_sorting_all(logits, p)


def test_top_p_keeps_the_last_of_equal_scores() -> None:
    for size in (4, 65536):
        filtered = SamplingConfig(top_p=0.5).filter(np.zeros(size), [])
        assert np.flatnonzero(np.isfinite(filtered)).tolist() == list(range(size // 2, size))


@pytest.mark.parametrize("size", [7, 3000, 50257])
def test_top_k_keeps_the_k_largest_and_tied_scores(size: int) -> None:
    rng = np.random.default_rng(size)
    for logits in (rng.normal(0, 1, size), rng.integers(0, 9, size) / 4, np.zeros(size)):
        for k in (1, 2, 50, 196, 2000):
            filtered = SamplingConfig(top_k=k).filter(logits, [])
            wanted = np.flatnonzero(logits >= np.sort(logits)[-min(k, size)])
            assert np.flatnonzero(np.isfinite(filtered)).tolist() == wanted.tolist()


@pytest.mark.parametrize("size", [5, 4097, 50257])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.7}, {"top_k": 40}, {"top_p": 0.8}, {"min_p": 0.01}])
def test_a_draw_takes_the_token_at_which_the_sum_of_probabilities_passes_it(size: int, options: dict[str, Any]) -> None:
    logits = np.random.default_rng(size).normal(0, 3, size).astype(np.float32)
    sampling, rng, same = SamplingConfig(**options), np.random.default_rng(1), np.random.default_rng(1)
    cumulative = np.exp(sampling.filter(logits, [])).cumsum()
    for _ in range(30):
        wanted = cumulative.searchsorted(same.random() * cumulative[-1], side="right")
        assert sampling.choose(logits, [], rng) == wanted


class Edge(np.random.Generator):
    """A generator that draws one given number."""

    def __init__(self, number: float) -> None:
        super().__init__(np.random.PCG64(0))
        self._number = number

    def random(self, *_: Any, **__: Any) -> Any:
        return self._number


@pytest.mark.parametrize("size", [10, 5000])
def test_tokens_of_probability_zero_are_never_drawn(size: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        logits = rng.normal(0, 3, size)
        possible = rng.random(size) < 0.3
        possible[rng.integers(size)] = True
        logits[~possible] = -np.inf
        for share in (0.0, np.nextafter(1.0, 0.0), rng.random()):
            assert possible[SamplingConfig().choose(logits, [], Edge(share))]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0},
        {"temperature": 0.7, "top_k": 2},
        {"top_p": 0.9},
        {"min_p": 0.1},
        {"temperature": 0, "repetition_penalty": 1.5},
    ],
)
@pytest.mark.parametrize("size", [1, 65, 5000])
def test_logits_of_a_diverged_model_are_refused(options: dict[str, Any], size: int) -> None:
    sampling, rng = SamplingConfig(**options), np.random.default_rng(size)
    damaged = {"-inf": np.full(size, -np.inf, np.float32)}
    for reason in ("nan", "inf"):
        damaged[reason] = rng.normal(0, 3, size).astype(np.float32)
        damaged[reason][rng.integers(size)] = reason
    for reason, logits in damaged.items():
        for choice in (lambda x: sampling.choose(x, [0], rng), lambda x: sampling.filter(x, [0])):
            with pytest.raises(ValueError, match=rf"the largest logit \({reason}\) must be finite: the training"):
                choice(logits)


def test_logits_of_minus_infinity_are_allowed() -> None:
    logits = np.array([-np.inf, 1.0, -np.inf])
    for temperature in (0.0, 1.0):
        assert SamplingConfig(temperature=temperature).choose(logits, [], np.random.default_rng(0)) == 1


def test_a_penalty_makes_tokens_that_occurred_less_probable() -> None:
    filtered = SamplingConfig(repetition_penalty=2.0, temperature=0).filter(np.array([4.0, -1.0, 1.0]), [0, 1, 0])
    np.testing.assert_array_equal(filtered, [2.0, -2.0, 1.0])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"temperature": -1.0}, r"temperature \(-1.0\) must be at least 0"),
        ({"temperature": float("nan")}, r"temperature \(nan\) must be at least 0"),
        ({"top_k": 0}, r"top_k \(0\) must be at least 1"),
        ({"top_p": 0.0}, r"top_p \(0.0\) must be in \(0, 1\]"),
        ({"min_p": 1.5}, r"min_p \(1.5\) must be in \[0, 1\]"),
        ({"repetition_penalty": 0.0}, r"repetition_penalty \(0.0\) must be positive"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        SamplingConfig(**options)
