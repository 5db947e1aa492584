"""Operations that share out their parts compute the same, and nobody shares without having been lent threads."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.nn.functional import activation, gelu, products, sharing
from axone.nn.functional.attention import packed_attention, scaled_dot_product_attention

R = TypeVar("R")


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


@pytest.fixture
def lent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Lend three threads to operations as small as they come; return how many parts each has been cut into."""
    counts: list[int] = []

    def run(parts: Sequence[Callable[[], R]]) -> list[R]:
        counts.append(len(parts))
        return [future.result() for future in [pool.submit(part) for part in parts]]

    monkeypatch.setattr(sharing, "_ALONE", 1)
    monkeypatch.setattr(products, "_WIDTH", 2)
    monkeypatch.setattr(activation, "_PART", 4)
    with ThreadPoolExecutor(3) as pool, sharing.lend(run, 3):
        yield counts


@pytest.mark.parametrize(("rows", "columns", "parts"), [(7, 3, [3]), (3, 7, [3]), (1, 2, []), (0, 4, [2]), (5, 4, [2])])
def test_products_by_rows_or_columns(rows: int, columns: int, parts: list[int], lent: list[int]) -> None:
    a, b = random(rows, 5), random(5, columns, seed=1)
    np.testing.assert_allclose(products.matmul(a, b), a @ b, rtol=1e-12)
    assert lent == parts


@pytest.mark.parametrize("size", [1, 4, 9, 50])
def test_gelu_by_parts(size: int, lent: list[int]) -> None:
    x, g = random(size), random(size, seed=1)
    shared = Tensor(x, requires_grad=True)
    y = gelu(shared)
    y.backward(g)
    with sharing.lend(None, 1):
        alone = Tensor(x, requires_grad=True)
        expected = gelu(alone)
        expected.backward(g)
    np.testing.assert_array_equal(y.data, expected.data)
    np.testing.assert_array_equal(shared.grad, alone.grad)
    assert lent == ([] if size < 8 else [2, 2] if size < 12 else [3, 3])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kept", [0, 1 << 20])
def test_attention_by_heads(masked: bool, kept: int, lent: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
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

    shared = attend()
    with sharing.lend(None, 1):
        alone = attend()
    for one, other in zip(shared, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    assert lent == [3] * 4


@pytest.mark.parametrize("kept", [0, 1 << 20])
@pytest.mark.parametrize(("first", "then"), [(3, 1), (1, 3), (3, 2), (2, 3)])
def test_a_backward_with_other_threads_than_its_forward(
    first: int, then: int, kept: int, lent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("axone.nn.functional.attention_kernel._KEPT_SCORES", kept)
    run = sharing._lent.run

    def gradients(first: int, then: int) -> list[Any]:
        leaves = [Tensor(random(1, 3, 70, 4, seed=seed), requires_grad=True) for seed in range(3)]
        with sharing.lend(run, first):
            out = scaled_dot_product_attention(*leaves, causal=True)
        with sharing.lend(run, then):
            out.backward(random(*out.shape, seed=3))
        return [leaf.grad for leaf in leaves]

    for one, other in zip(gradients(first, then), gradients(1, 1), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
    assert max(lent, default=1) == first


def test_small_operations_are_not_shared_out(lent: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    for tokens, parts in ((16, []), (256, [3, 3])):
        q = Tensor(random(1, 12, tokens, 64), requires_grad=True)
        scaled_dot_product_attention(q, q, q, causal=True).backward(random(*q.shape, seed=1))
        assert lent == parts
    products.matmul(random(64, 128), random(128, 512))
    gelu(Tensor(random(64, 512)))
    assert lent == [3, 3]


def test_a_part_has_nothing_to_share_out(lent: list[int]) -> None:
    inner = sharing.share_out(lambda _: len(sharing.shares(100)), sharing.shares(100))
    assert inner == [1, 1, 1]
    assert lent == [3]


def test_what_is_lent_to_one_thread_is_not_lent_to_another(lent: list[int]) -> None:
    alone: list[bool] = []
    thread = threading.Thread(target=lambda: alone.append(sharing.is_alone()))
    thread.start()
    thread.join()
    assert alone == [True]
    assert not sharing.is_alone()
    assert not lent


@pytest.mark.parametrize(
    ("size", "of", "least"), [(0, 1, 1), (1, 4, 1), (12, 4, 1), (13, 4, 1), (64, 4, 40), (100, 8, 9)]
)
@pytest.mark.usefixtures("lent")
def test_shares_cover_the_axis_once(size: int, of: int, least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "_ALONE", 5 * least)
    parts = sharing.shares(size, of=of, work=5)
    assert [i for part in parts for i in range(size)[part]] == list(range(size))
    assert len(parts) <= 3
    assert all(part.start % of == 0 for part in parts)
    assert len(parts) == 1 or all(part.stop - part.start >= min(of, least) for part in parts)


def test_an_error_in_a_part_reaches_the_caller(lent: list[int]) -> None:
    with pytest.raises(ZeroDivisionError):
        sharing.share_out(lambda part: 1 // part.start, sharing.shares(9))
    assert lent == [3]
    assert not sharing.is_alone()
