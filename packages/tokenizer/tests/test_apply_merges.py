"""Tests of merging, of the piece table and of the hash table."""

import random
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from axone.tokenizer import BPETokenizer
from axone.tokenizer.bpe import apply_merges, piece_table
from axone.tokenizer.bpe.apply_merges import PairMerger
from axone.tokenizer.bpe.flat_words import IntArray
from axone.tokenizer.bpe.hash_table import IntegerHashTable
from axone.tokenizer.bpe.patterns import code_points
from axone.tokenizer.bpe.piece_table import PieceTable

Naive = Callable[[Sequence[int], Mapping[tuple[int, int], tuple[int, int]]], list[int]]
Random = Callable[[random.Random, int], str]


def merge_many(merger: PairMerger, words: list[str]) -> list[list[int]]:
    ids, starts, counts = merger.merge_words(code_points("".join(words)), np.array([len(word) for word in words]))
    return [ids[start : start + count].tolist() for start, count in zip(starts, counts)]


def random_merger(
    rng: random.Random, alphabet: bytes, *, ordered: bool
) -> tuple[PairMerger, IntArray, list[tuple[int, int]]]:
    """Random merges over the bytes of a few characters.

    If they are not ordered, a merge may precede the merges that create its parts.
    """
    byte_ids = np.array(rng.sample(range(256), 256))
    ids = [int(byte_ids[byte]) for byte in set(alphabet)]
    merges: list[tuple[int, int]] = []
    for product in range(256, 256 + rng.randint(1, 40)):
        pair = (rng.choice(ids), rng.choice(ids))
        if pair not in merges:
            merges.append(pair)
            ids.append(product)
    products = list(range(256, 256 + len(merges)))
    if not ordered:
        shuffled = list(zip(merges, products))
        rng.shuffle(shuffled)
        merges, products = [pair for pair, _ in shuffled], [product for _, product in shuffled]
    return PairMerger(byte_ids, merges, products), byte_ids, merges


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("alphabet", ["ab", "aé", "éèñ", "中丰丯", "a中😀😁é"])
def test_heap_and_batched_merging_equal_the_naive_algorithm(alphabet: str, ordered: bool, naive_ids: Naive) -> None:
    rng = random.Random(alphabet)
    for _ in range(60):
        merger, byte_ids, merges = random_merger(rng, alphabet.encode(), ordered=ordered)
        products = merger._products.tolist()
        rule = {pair: (rank, product) for rank, (pair, product) in enumerate(zip(merges, products))}
        words = ["".join(rng.choices(alphabet, k=rng.randint(1, 9))) for _ in range(40)]
        expected = [naive_ids(byte_ids[list(word.encode())].tolist(), rule) for word in words]
        assert [merger.merge_word(word.encode()) for word in words] == expected
        assert merge_many(merger, words) == expected


def test_results_do_not_depend_on_word_length_and_batch_size(
    tokenizer: BPETokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(5)
    words = ["".join(rng.choices("the dog aé文😀 ", k=rng.randint(1, 40))) for _ in range(300)]
    expected = [tokenizer._encoder._merger.merge_word(word.encode()) for word in words]
    assert merge_many(tokenizer._encoder._merger, words) == expected
    monkeypatch.setattr(apply_merges, "_LONG", 12)
    monkeypatch.setattr(apply_merges, "_BATCH", 50)
    assert merge_many(tokenizer._encoder._merger, words) == expected


def test_some_merges_are_context_free(tokenizer: BPETokenizer) -> None:
    """Without context-free merges the tests above would not cover the per-character step."""
    assert tokenizer._encoder._merger._context_free.any()
    assert not PairMerger(np.arange(256), [(256, 97), (97, 98)], [257, 256])._context_free.any()


@pytest.mark.parametrize("unit", ["a", " ", "\n", "^", "7", "'", "ab", "the dog"])
def test_heap_operations_of_one_word_are_linear_in_its_length(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts heap pops, because a timing would be noisy."""
    tokenizer = BPETokenizer.train([unit * 1000, "the dog 77 '' ^^ \n\n"], 400, pattern=None)
    taken = 0

    def counting_pop(heap: list[int]) -> int:
        nonlocal taken
        taken += 1
        return heappop(heap)

    monkeypatch.setattr("axone.tokenizer.bpe.apply_merges.heappop", counting_pop)
    for size in (1_000, 100_000):
        taken = 0
        text = (unit * size)[:size]
        assert tokenizer.decode(tokenizer.encode(text)) == text
        assert taken <= 3 * size


def intern(table: PieceTable, words: list[str]) -> list[int]:
    lengths = np.array([len(word) for word in words])
    indices: list[int] = table.intern(code_points("".join(words)), lengths.cumsum() - lengths).tolist()
    return indices


@pytest.mark.parametrize("powers", [None, 0, 1])
def test_only_equal_pieces_get_equal_indices(
    powers: int | None, monkeypatch: pytest.MonkeyPatch, random_text: Random
) -> None:
    """Includes hashes that collide for all pieces, and for pieces with the same characters."""
    if powers is not None:
        monkeypatch.setattr(piece_table, "_POWERS", np.full(piece_table._PERIOD, powers, dtype=np.uint64))
    rng = random.Random(6)
    table = PieceTable()
    given: dict[str, int] = {}
    for _ in range(30):
        words = [word for _ in range(40) if (word := random_text(rng, 3))] + ["\x00", "\x00\x00", "ab", "ba", "a" * 700]
        for word, index in zip(words, intern(table, words)):
            assert given.setdefault(word, index) == index
    assert sorted(given.values()) == list(range(len(table)))
    assert table.strings() == sorted(given, key=given.__getitem__)


@given(st.lists(st.dictionaries(st.integers(0, 300), st.integers(0, 2**40)), max_size=8), st.integers(0, 2**50))
def test_a_hash_table_behaves_as_a_dictionary(parts: list[dict[int, int]], offset: int) -> None:
    table, plain = IntegerHashTable(default=-7), dict[int, int]()
    asked = np.concatenate((np.arange(302) + offset, [-1, -(2**40)]))
    for part in parts:
        new = {key + offset: value for key, value in part.items() if key + offset not in plain}
        table.insert(np.array(list(new), dtype=np.int64), np.array(list(new.values()), dtype=np.int64))
        plain |= new
        assert table.lookup(asked).tolist() == [plain.get(key, -7) for key in asked.tolist()]
