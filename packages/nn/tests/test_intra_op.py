"""Operations on several threads compute the same as on one, and only where threads were assigned."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.nn.functional import (
    activation,
    gelu,
    intra_op,
    matmul,
    packed_heads,
    packed_rms_norm_rotary,
    relu2,
)
from axone.nn.functional.attention import packed_attention, scaled_dot_product_attention

R = TypeVar("R")


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Assign three threads to operations of any size; return the number of chunks of each parallel run."""
    counts: list[int] = []

    def run(parts: Sequence[Callable[[], R]]) -> list[R]:
        counts.append(len(parts))
        return [future.result() for future in [pool.submit(part) for part in parts]]

    monkeypatch.setattr(intra_op, "_LEAST_WORK", 1)
    monkeypatch.setattr(matmul, "_MULTIPLE", 2)
    monkeypatch.setattr(activation, "_PART", 4)
    with ThreadPoolExecutor(3) as pool, intra_op.use_threads(run, 3):
        yield counts


@pytest.mark.parametrize(("rows", "columns", "parts"), [(7, 3, [3]), (3, 7, [3]), (1, 2, []), (0, 4, [2]), (5, 4, [2])])
def test_a_product_is_cut_by_rows_or_columns(rows: int, columns: int, parts: list[int], runs: list[int]) -> None:
    a, b = random(rows, 5), random(5, columns, seed=1)
    np.testing.assert_allclose(matmul.matmul(a, b), a @ b, rtol=1e-12)
    assert runs == parts


@pytest.mark.parametrize("size", [1, 4, 9, 50])
@pytest.mark.parametrize("function", [gelu, relu2])
def test_activations_are_cut_into_parts(function: Callable[[Tensor], Tensor], size: int, runs: list[int]) -> None:
    x, g = random(size), random(size, seed=1)
    shared = Tensor(x, requires_grad=True)
    y = function(shared)
    y.backward(g)
    with intra_op.use_threads(None, 1):
        alone = Tensor(x, requires_grad=True)
        expected = function(alone)
        expected.backward(g)
    np.testing.assert_array_equal(y.data, expected.data)
    np.testing.assert_array_equal(shared.grad, alone.grad)
    assert runs == ([] if size < 8 else [2, 2] if size < 12 else [3, 3])


@pytest.mark.parametrize(("part", "chunks"), [(1, 3), (60, 3), (80, 3), (100, 2), (200, 1), (1000, 1)])
@pytest.mark.parametrize("per_sequence", [False, True])
def test_packed_heads_are_cut_by_positions(
    per_sequence: bool, part: int, chunks: int, runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    x, g = random(5, 9, 32), random(5, 9, 32, seed=1)  # 4 query heads and 2 key heads: 24 elements of a position change
    angles = random(5, 9, 2, seed=2) if per_sequence else random(9, 2, seed=2)

    def prepare() -> list[Any]:
        qkv, q_weight, k_weight = (
            Tensor(array, requires_grad=True) for array in (x, random(4, seed=3), random(4, seed=4))
        )
        out = packed_rms_norm_rotary(qkv, q_weight, k_weight, np.cos(angles), np.sin(angles), 4, 2)
        out.backward(g)
        return [out.data, qkv.grad, q_weight.grad, k_weight.grad]

    with intra_op.use_threads(None, 1):
        alone = prepare()
    monkeypatch.setattr(packed_heads, "_PART", part)
    for one, other in zip(prepare(), alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    assert runs == ([] if chunks == 1 else [chunks] * 2)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kept", [0, 1 << 20])
def test_attention_is_cut_by_heads(masked: bool, kept: int, runs: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("axone.nn.functional.attention_kernel._KEPT_SCORES", kept)
    arrays = random(2, 8, 9, 3), random(2, 4, 9, 3, seed=1), random(2, 4, 9, 3, seed=2)
    mask = random(2, 8, 9, 9, seed=3) > -1 if masked else None

    def attend() -> list[Any]:
        leaves = [Tensor(array, requires_grad=True) for array in arrays]
        out = scaled_dot_product_attention(*leaves, mask=mask, causal=True)
        out.backward(random(*out.shape, seed=4))
        packed = Tensor(random(2, 9, 36, seed=5), requires_grad=True)
        again = packed_attention(packed, 6, 3)
        again.backward(random(*again.shape, seed=6))
        return [out.data, again.data, packed.grad, *(leaf.grad for leaf in leaves)]

    several = attend()
    with intra_op.use_threads(None, 1):
        alone = attend()
    for one, other in zip(several, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    assert runs == [3] * 4


@pytest.mark.parametrize("kept", [0, 1 << 20])
@pytest.mark.parametrize(("first", "then"), [(3, 1), (1, 3), (3, 2), (2, 3)])
def test_backward_may_run_on_another_number_of_threads_than_forward(
    first: int, then: int, kept: int, runs: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("axone.nn.functional.attention_kernel._KEPT_SCORES", kept)
    run = intra_op._assigned.run

    def gradients(first: int, then: int) -> list[Any]:
        leaves = [Tensor(random(1, 3, 70, 4, seed=seed), requires_grad=True) for seed in range(3)]
        with intra_op.use_threads(run, first):
            out = scaled_dot_product_attention(*leaves, causal=True)
        with intra_op.use_threads(run, then):
            out.backward(random(*out.shape, seed=3))
        return [leaf.grad for leaf in leaves]

    for one, other in zip(gradients(first, then), gradients(1, 1), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    assert max(runs, default=1) == first


def test_small_operations_run_on_one_thread(runs: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for tokens, parts in ((16, []), (256, [3, 3])):
        q = Tensor(random(1, 12, tokens, 64), requires_grad=True)
        scaled_dot_product_attention(q, q, q, causal=True).backward(random(*q.shape, seed=1))
        assert runs == parts
    matmul.matmul(random(64, 128), random(128, 512))
    gelu(Tensor(random(64, 512)))
    assert runs == [3, 3]


def test_a_chunk_runs_on_one_thread(runs: list[int]) -> None:
    inner = intra_op.parallel_for(lambda _: len(intra_op.chunks(100)), intra_op.chunks(100))
    assert inner == [1, 1, 1]
    assert runs == [3]


def test_threads_are_assigned_to_the_calling_thread_only(runs: list[int]) -> None:
    alone: list[bool] = []
    thread = threading.Thread(target=lambda: alone.append(intra_op.is_single_threaded()))
    thread.start()
    thread.join()
    assert alone == [True]
    assert not intra_op.is_single_threaded()
    assert not runs


@pytest.mark.parametrize(
    ("size", "of", "least"), [(0, 1, 1), (1, 4, 1), (12, 4, 1), (13, 4, 1), (64, 4, 40), (100, 8, 9)]
)
@pytest.mark.usefixtures("runs")
def test_chunks_cover_the_axis_once(size: int, of: int, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intra_op, "_LEAST_WORK", 5 * least)
    parts = intra_op.chunks(size, multiple_of=of, work=5)
    assert [i for part in parts for i in range(size)[part]] == list(range(size))
    assert len(parts) <= 3
    assert all(part.start % of == 0 for part in parts)
    assert len(parts) == 1 or all(part.stop - part.start >= min(of, least) for part in parts)


def test_an_error_in_a_chunk_reaches_the_caller(runs: list[int]) -> None:
    with pytest.raises(ZeroDivisionError):
        intra_op.parallel_for(lambda part: 1 // part.start, intra_op.chunks(9))
    assert runs == [3]
    assert not intra_op.is_single_threaded()
