"""NgramEmbedding against a loop over positions: values, gradients, sequences in one row, and decoding with a cache."""

from typing import Any

import numpy as np
import pytest

from axone.autograd import Tensor
from axone.autograd.testing import check_grads
from axone.nn import NgramEmbedding, reseed_dropout
from axone.nn.extend import DecodeContext

V, C = 7, 4


def layer(rows: list[int], seed: int = 0, **options: Any) -> NgramEmbedding:
    ngrams = NgramEmbedding(V, C, rows, **options).astype(np.float64)
    rng = np.random.default_rng(seed)
    for table in ngrams.tables:
        table.data[...] = rng.standard_normal(table.shape)
    return ngrams


def ids_of(*shape: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).integers(0, V, shape)


def plain(ngrams: NgramEmbedding, sequence: list[int]) -> Any:
    """Return the vector of the last position of one sequence, n-gram by n-gram and hash by hash."""
    total = np.zeros(C)
    H = ngrams.num_hashes
    for order, table in enumerate(ngrams.tables, 2):
        count = len(table.data) // H
        last = [0] * max(order - len(sequence), 0) + sequence[-order:]
        number = sum(id * V**back for back, id in enumerate(reversed(last)))
        for part in range(H):
            row = number if V**order <= count else (number * 0x9E3779B97F4A7C15 ** (part + 1) % 2**64 >> 32) % count
            total[part * C // H : (part + 1) * C // H] += table.data[part * count + row]
    return total


@pytest.mark.parametrize("num_hashes", [1, 2, 4])
@pytest.mark.parametrize("rows", [[49], [10], [49, 343, 2401], [49, 20, 30]])
def test_the_vectors_of_n_grams_are_those_of_a_loop(rows: list[int], num_hashes: int) -> None:
    ngrams, ids = layer(rows, num_hashes=num_hashes), ids_of(3, 9)
    expected = [[plain(ngrams, row[: at + 1]) for at in range(9)] for row in ids.tolist()]
    np.testing.assert_allclose(ngrams(ids).data, expected, rtol=1e-12)


def test_two_n_grams_that_share_a_part_differ_in_another() -> None:
    ngrams = layer([49, 20], num_hashes=4)
    ids = np.stack(np.unravel_index(np.arange(V**3), (V, V, V)), axis=-1)  # (V^3, 3)
    rows = ngrams.rows(ids, np.arange(3), 3, len(ngrams.tables[1].data))[:, 2]  # (V^3, 4)
    assert len(np.unique(rows[:, 0])) == 20
    assert len(np.unique(rows, axis=0)) > V**3 * 0.95


@pytest.mark.parametrize("length", [1, 2])
def test_sequences_shorter_than_an_n_gram_are_preceded_by_zeros(length: int) -> None:
    ngrams, ids = layer([49, 30, 40]), ids_of(2, length)
    np.testing.assert_array_equal(
        ngrams(ids).data, ngrams(np.pad(ids, ((0, 0), (5, 0))), positions=np.arange(5 + length)).data[:, 5:]
    )


def test_new_tables_are_zero() -> None:
    assert not NgramEmbedding(V, C, [49, 20])(ids_of(2, 5)).data.any()


@pytest.mark.parametrize("dropout", [0, 0.5])
@pytest.mark.parametrize("num_hashes", [1, 2])
def test_gradients_are_those_of_finite_differences(num_hashes: int, dropout: float) -> None:
    ngrams, ids = layer([49, 5], num_hashes=num_hashes, dropout=dropout), ids_of(2, 6)

    def loss(*tables: Tensor) -> Tensor:
        reseed_dropout(ngrams, [3])
        ngrams.tables = list(tables)  # type: ignore[arg-type]  # the check passes Tensors
        return (ngrams(ids) ** 2).sum()

    check_grads(loss, [Tensor(table.data.copy(), requires_grad=True) for table in ngrams.tables])


def test_dropout_zeroes_whole_vectors_of_single_tables_and_scales_up_the_others() -> None:
    ngrams, ids = layer([49, 343], num_hashes=2, dropout=0.25, rng=np.random.default_rng(0)), ids_of(40, 50)
    ngrams.eval()
    total = ngrams(ids).data
    pairs = ngrams.tables[0].data[ngrams.rows(ids, np.arange(50), 2, 98)].reshape(total.shape)
    ngrams.train()
    choices = np.stack([np.zeros_like(total), pairs, total - pairs, total]) / 0.75  # (4, 40, 50, C)
    distance = np.abs(choices - ngrams(ids).data).max(axis=-1)  # (4, 40, 50)
    np.testing.assert_allclose(distance.min(axis=0), 0, atol=1e-12)
    shares = np.bincount(distance.argmin(axis=0).ravel(), minlength=4) / ids.size
    np.testing.assert_allclose(shares, [1 / 16, 3 / 16, 3 / 16, 9 / 16], atol=0.04)


def test_the_masks_of_dropout_follow_from_a_key() -> None:
    ngrams, ids = layer([49, 30], dropout=0.5), ids_of(2, 9)
    drawn = []
    for key in ((0, 1), (0, 2), (0, 1)):
        reseed_dropout(ngrams, key)
        drawn.append(ngrams(ids).data)
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert (drawn[0] != drawn[1]).any()


def test_sequences_in_one_row_do_not_see_each_other() -> None:
    ngrams, (one, two) = layer([49, 30]), ids_of(2, 4)
    row, positions = np.concatenate([one, two])[None], np.tile(np.arange(4), 2)[None]
    expected = np.concatenate([ngrams(one[None]).data, ngrams(two[None]).data], axis=1)
    np.testing.assert_array_equal(ngrams(row, positions=positions).data, expected)


@pytest.mark.parametrize("length", [1, 2, 5])
def test_ids_before_the_sequences_are_seen_by_each(length: int) -> None:
    ngrams, ids, before = layer([49, 30, 60]), ids_of(2, 4), ids_of(length, seed=2)
    whole = np.concatenate([np.tile(before, (2, 1)), ids], axis=1)
    np.testing.assert_array_equal(ngrams(ids, before=before).data, ngrams(whole).data[:, length:])


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("num_hashes", [1, 4])
def test_decoding_with_a_cache_equals_the_call(num_hashes: int, centred: bool) -> None:
    ngrams, ids = layer([49, 30, 60], num_hashes=num_hashes), ids_of(2, 8)
    tables, expected = [table.data for table in ngrams.tables], ngrams(ids).data
    forward, cache = ngrams.lookup(tables, centred=centred), ngrams.make_cache(2, 8)
    if centred:
        expected = expected - expected.mean(axis=-1, keepdims=True)
    parts = []
    for first, last in ((0, 1), (1, 2), (2, 6), (6, 8)):
        rows = forward(ids[:, first:last], cache, DecodeContext(2, np.arange(first, last)))
        parts.append(rows.reshape(2, last - first, C))
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), expected)


def test_no_table_and_an_empty_table_are_refused() -> None:
    for rows in ([], [49, 0]):
        with pytest.raises(ValueError, match=r"must be at least one number, each at least 1$"):
            NgramEmbedding(V, C, rows)


def test_hashes_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^embedding_dim \(4\) must be divisible by num_hashes \(3\)$"):
        NgramEmbedding(V, C, [49], num_hashes=3)
