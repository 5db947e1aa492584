"""KV caches: growth, views, and the operations on batches."""

import threading

import numpy as np
import pytest
from numpy.typing import NDArray

from axone.nn import KVCache, cache
from axone.nn.extend import RowCache

Array = NDArray[np.float64]
K, D = 3, 2


def random(batch: int, length: int, seed: int = 0) -> tuple[Array, Array]:
    keys, values = np.random.default_rng(seed).standard_normal((2, batch, K, length, D))
    return keys, values


def filled(batch: int = 2, length: int = 5, max_length: int = 9) -> tuple[KVCache, Array, Array]:
    made = KVCache(batch, K, max_length, D, dtype=np.float64)
    keys, values = random(batch, length)
    made.append(keys, values)
    return made, keys, values


def check(made: KVCache, keys: Array, values: Array) -> None:
    """Check the held keys and values: appending nothing returns them."""
    nothing = np.empty((keys.shape[0], keys.shape[1], 0, D))
    for found, expected in zip(made.append(nothing, nothing), (keys, values), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_memory_grows_as_positions_are_appended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_FIRST_CAPACITY", 4)
    made = KVCache(1, K, 1 << 40, D, dtype=np.float64)
    assert (made.capacity, made.max_length) == (4, 1 << 40)
    keys, values = random(1, 30)
    for at in range(30):
        made.append(keys[:, :, [at]], values[:, :, [at]])
    check(made, keys, values)
    assert (made.capacity, made.version) == (32, 3)
    made.reserve(33)
    made.reserve(10)
    assert made.capacity == 64
    made.reserve(200)
    assert made.capacity == 200
    check(made, keys, values)


def test_sequences_of_a_batch_share_the_positions_that_are_allocated_at_first() -> None:
    assert [KVCache(batch, K, 5000, D).capacity for batch in (0, 1, 3, 16, 5000)] == [2048, 2048, 683, 128, 1]
    made, keys, values = filled(batch=1, max_length=5000)
    made.select(np.zeros(16, np.intp))
    assert made.capacity == 128
    check(made, keys.repeat(16, axis=0), values.repeat(16, axis=0))
    made.select(np.zeros(4096, np.intp))
    assert made.capacity == 5  # those that are held


def test_a_cache_never_grows_beyond_its_max_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_FIRST_CAPACITY", 4)
    made = KVCache(1, K, 5, D)
    made.reserve(5)
    assert made.capacity == 5
    for grow in (lambda: made.reserve(6), lambda: made.append(*random(1, 6))):
        with pytest.raises(ValueError, match="the cache has room for 5 positions, and not for 6: give it a larger max"):
            grow()


def test_lowering_the_length_forgets_later_positions() -> None:
    made, keys, values = filled()
    made.length = 2
    more = random(2, 1, seed=1)
    made.append(*more)
    check(made, np.concatenate([keys[:, :, :2], more[0]], axis=2), np.concatenate([values[:, :, :2], more[1]], axis=2))


def test_a_view_of_some_heads_writes_to_the_whole_cache() -> None:
    made, keys, values = filled()
    view = made.view(heads=slice(1, 3))
    more = random(2, 1, seed=1)
    held = view.append(more[0][:, 1:], more[1][:, 1:])
    np.testing.assert_array_equal(held[0], np.concatenate([keys, more[0]], axis=2)[:, 1:])
    assert (view.length, made.length) == (6, 5)
    made.length = 6
    nothing = np.empty((2, K, 0, D))
    np.testing.assert_array_equal(
        made.append(nothing, nothing)[1][:, 1:], np.concatenate([values, more[1]], axis=2)[:, 1:]
    )


def test_views_fill_one_cache_from_several_threads() -> None:
    made, keys, values = filled(length=2)
    more, seen, barrier = random(2, 6, seed=1), {}, threading.Barrier(2)

    def fill(start: int, stop: int) -> None:
        view = made.view(start=start, after_write=barrier.wait)
        seen[start] = [array.copy() for array in view.append(more[0][:, :, start:stop], more[1][:, :, start:stop])]

    threads = [threading.Thread(target=fill, args=run) for run in ((0, 4), (4, 6))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(seen[4][0], np.concatenate([keys, more[0]], axis=2))
    np.testing.assert_array_equal(seen[0][1], np.concatenate([values, more[1][:, :, :4]], axis=2))


def test_a_view_has_the_memory_of_when_it_was_made() -> None:
    made, keys, values = filled(max_length=9)
    view = made.view()
    with pytest.raises(ValueError, match="room for 9 positions, and not for 10"):
        view.append(*random(2, 5))
    made.move(np.zeros)
    assert made.version == view.version + 1
    made.append(*random(2, 1))
    check(view, keys, values)


def test_move_uses_the_memory_that_is_given() -> None:
    made, keys, values = filled()
    memory: list[Array] = []

    def allocate(size: int, dtype: np.dtype[np.float64]) -> Array:
        memory.append(np.zeros(size, dtype))
        return memory[-1]

    made.move(allocate)
    check(made, keys, values)
    assert made.capacity == 9
    made.append(np.ones((2, K, 1, D)), np.full((2, K, 1, D), 2.0))
    assert [array.reshape(2, K, 9, D)[0, 0, 5, 0] for array in memory] == [1, 2]


def test_select_keeps_sequences_in_the_order_given() -> None:
    made, keys, values = filled(batch=3)
    made.select(np.array([2, 0]))
    check(made, keys[[2, 0]], values[[2, 0]])
    assert made.version == 1


@pytest.mark.parametrize("rows", [[0, 1, 2], [1, 2, 3], [0, 3, 2], [3], []])
def test_sequences_that_move_to_the_front_stay_in_the_same_memory(rows: list[int]) -> None:
    made, keys, values = filled(batch=4)
    memory = made.append(np.empty((4, K, 0, D)), np.empty((4, K, 0, D)))
    made.select(np.array(rows, np.intp))
    check(made, keys[rows], values[rows])
    assert (made.version, made.batch, made.capacity) == (0, len(rows), 9)
    for array, before in zip(memory, (keys, values), strict=True):
        np.testing.assert_array_equal(array[: len(rows)], before[rows])


def test_move_allocates_at_least_the_positions_that_are_asked_for() -> None:
    made, keys, values = filled(max_length=10_000)
    for length, capacity in ((0, 1024), (1024, 1024), (1025, 2048), (9000, 9000)):
        made.move(np.empty, length)
        assert made.capacity == capacity
    with pytest.raises(ValueError, match="the cache has room for 10000 positions, and not for 10001"):
        made.move(np.empty, 10_001)
    check(made, keys, values)


def test_drop_first_moves_later_positions_to_the_front() -> None:
    made, keys, values = filled()
    made.drop_first(2)
    assert made.length == 3
    check(made, keys[:, :, 2:], values[:, :, 2:])


def test_overwrite_last_replaces_the_end_of_some_sequences() -> None:
    made, keys, values = filled(batch=3)
    other, new_keys, new_values = filled(batch=2, length=2)
    made.overwrite_last(np.array([0, 2]), other)
    for array, new in ((keys, new_keys), (values, new_values)):
        array[[0, 2], :, 3:] = new
    check(made, keys, values)


def test_a_row_cache_holds_the_same_as_any_other() -> None:
    made, (keys, values) = RowCache(K, 4, D, dtype=np.float64), random(1, 4)
    for at in range(3):
        key_rows, value_rows = made.append_row(keys[0, :, at].reshape(-1), values[0, :, at].reshape(-1))
        assert key_rows.shape == (at + 1, K * D)
        np.testing.assert_array_equal(value_rows[:, K * D :], np.ones((at + 1, RowCache.ONES)))
    made.append(keys[:, :, 3:], values[:, :, 3:])
    check(made, keys, values)
    with pytest.raises(ValueError, match="the cache has room for 4 positions, and not for 5"):
        made.append_row(np.zeros(K * D), np.zeros(K * D))


@pytest.mark.parametrize("moved", [False, True])
def test_a_row_cache_is_row_major_until_it_is_moved(moved: bool) -> None:
    made, (keys, values) = RowCache(K, 4, D, dtype=np.float64), random(1, 2)
    made.append(keys, values)
    assert made.is_row_major
    if moved:
        made.move(np.empty)
    else:
        made.select(np.array([0]))
    assert not made.is_row_major
    with pytest.raises(ValueError, match="no longer row-major, because it was moved: use append"):
        made.append_row(np.zeros(K * D), np.zeros(K * D))
    check(made, keys, values)


def test_few_scores_pay_for_a_row_cache() -> None:
    assert RowCache.pays(4, 4, 256, 32)
    assert not RowCache.pays(4, 4, 257, 32)
