"""Token datasets: splits, batches and token files."""

from pathlib import Path

import numpy as np
import pytest

from axone.llm import CheckpointError, TokenDataset
from axone.tokenizer import CharTokenizer


def test_a_target_is_the_token_that_follows(dataset: TokenDataset) -> None:
    inputs, targets = dataset.batch(0, 0, 4, 16)
    assert inputs.shape == targets.shape == (4, 16)
    np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])


def test_a_batch_is_a_function_of_its_key(dataset: TokenDataset) -> None:
    first, again, other = (dataset.batch(*key, 4, 16)[0] for key in ((0, 7), (0, 7), (0, 8)))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_whole_windows_cover_the_text_once(dataset: TokenDataset) -> None:
    inputs = dataset.read(dataset.window_starts(16), 16)[0].reshape(-1)
    np.testing.assert_array_equal(inputs, dataset.tokens[: len(inputs)])
    assert len(dataset) - 1 - len(inputs) < 16


def test_a_limit_spreads_the_windows_evenly(dataset: TokenDataset) -> None:
    inputs, _ = dataset.read(dataset.window_starts(16, limit=10), 16)
    assert len(inputs) == 10
    last = (len(dataset) - 1) // 16 * 9 // 10 * 16
    np.testing.assert_array_equal(inputs[-1], dataset.tokens[last : last + 16])


def test_a_split_keeps_order_and_loses_nothing(dataset: TokenDataset) -> None:
    train, validation = dataset.split(0.1)
    assert len(train) == int(len(dataset) * 0.9)
    np.testing.assert_array_equal(np.concatenate([train.tokens, validation.tokens]), dataset.tokens)


def test_bytes_are_those_of_the_text() -> None:
    text = "äöü and 日本語 "
    assert TokenDataset.from_text(text, CharTokenizer.train(text)).num_bytes == len(text.encode())


def test_a_token_file_holds_the_same_tokens(dataset: TokenDataset, tmp_path: Path) -> None:
    opened = dataset.write(tmp_path / "tokens.bin")
    assert isinstance(opened.tokens, np.memmap)
    np.testing.assert_array_equal(opened.tokens, dataset.tokens)


def test_a_token_file_cut_short_is_refused(dataset: TokenDataset, tmp_path: Path) -> None:
    path = tmp_path / "tokens.bin"
    dataset.write(path)
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(CheckpointError, match="is damaged"):
        TokenDataset.open(path, dataset.tokenizer)


def test_a_text_shorter_than_the_context_is_refused(dataset: TokenDataset) -> None:
    with pytest.raises(ValueError, match="more tokens than the context of 16"):
        dataset.part(0, 16).batch(0, 0, 1, 16)
