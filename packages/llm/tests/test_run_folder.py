"""Folders of runs: what is stored, replaced, locked, skipped and refused."""

import dataclasses
import errno
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from short_run import CONFIG, SHAPE, TEXT, TOKENIZER, At, dataset, names, resume, trainer

from axone.llm import (
    CheckpointError,
    LanguageModel,
    LossPlot,
    MetricsFile,
    Run,
    RunBusyError,
    RunExistsError,
    TextGenerator,
    TokenDataset,
    Trainer,
    cached_dataset,
    load,
    read_metrics,
)
from axone.llm.checkpoints.checkpoint import MANIFEST
from axone.llm.data.training_data import TrainingData
from axone.llm.storage.safetensors import read_arrays

links = pytest.mark.skipif(os.name == "nt", reason="Windows makes links only with a privilege")


def text(data: TrainingData) -> TokenDataset:
    assert isinstance(data, TokenDataset)
    return data


def test_two_datasets_of_one_file_name_stay_two_in_a_run(tmp_path: Path) -> None:
    for name in ("train", "validation"):
        (tmp_path / name).mkdir()
    one = dataset(tmp_path / "train" / "tokens.bin")
    other = dataset(tmp_path / "validation" / "tokens.bin", TEXT[::-1])
    model = LanguageModel(SHAPE, rng=np.random.default_rng(0))
    Trainer(model, one, other, CONFIG, run=tmp_path / "run").fit()
    resumed = Trainer.resume(tmp_path / "run")
    np.testing.assert_array_equal(text(resumed.train_data).tokens, one.tokens)
    np.testing.assert_array_equal(text(resumed.validation_data).tokens, other.tokens)


def refuse_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)


def test_a_run_on_another_disk_than_the_cache_owns_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_links(monkeypatch)
    filed = cached_dataset([TEXT, TEXT], "text", TOKENIZER, cache=tmp_path / "cache")
    train, validation = filed.split(0.4)
    with pytest.warns(UserWarning, match=r"copying [0-9,]+ bytes of (train|validation) data") as caught:
        Trainer(LanguageModel(SHAPE), train, validation, CONFIG, run=tmp_path / "run").fit()
    assert len(caught) == 2
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "run").rename(tmp_path / "moved")
    resumed = Trainer.resume(tmp_path / "moved")
    np.testing.assert_array_equal(text(resumed.validation_data).tokens, validation.tokens)
    assert text(resumed.train_data).num_documents == train.num_documents == 2


def test_a_token_file_that_was_replaced_after_it_was_opened_is_stored_as_it_was(tmp_path: Path) -> None:
    old = dataset(tmp_path / "tokens.bin")
    dataset(tmp_path / "tokens.bin", TEXT[::-1])  # another training, on a text that has changed
    with pytest.warns(UserWarning, match="cannot be linked into the run"):
        trainer(tmp_path / "run", data=old).fit()
    resumed = Trainer.resume(tmp_path / "run")
    np.testing.assert_array_equal(text(resumed.train_data).tokens, old.split()[0].tokens)


def test_a_run_that_is_replaced_while_it_is_trained_is_not_written_to(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def replace() -> None:
        shutil.rmtree(run)
        trainer(run).fit()

    with pytest.raises(CheckpointError, match="run: was removed or replaced while it was trained"):
        trainer(run, At(1, replace)).fit()
    assert [checkpoint.step for checkpoint in Run(run).checkpoints()] == [1, 2]
    assert not [name for name in names(run) if name.startswith(".")]


def test_a_run_that_is_removed_while_it_is_trained_stays_removed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with pytest.raises(CheckpointError, match="was removed or replaced while it was trained"):
        trainer(run, At(1, lambda: shutil.rmtree(run))).fit()
    assert names(tmp_path) == []


def test_a_lock_file_that_is_removed_ends_no_training(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert trainer(run, At(1, (run / "lock").unlink)).fit().outcome == "finished"
    assert Run(run).latest().step == 2


def test_a_folder_of_checkpoints_that_is_removed_by_hand_is_made_again(tmp_path: Path) -> None:
    """The next save failed, and the whole run was removed as one without a checkpoint."""
    run = tmp_path / "run"
    trainer(run, At(1, lambda: shutil.rmtree(run / "checkpoints"))).fit()
    assert names(run / "checkpoints") == ["step-000001", "step-000002"]


def test_a_run_that_is_replaced_after_it_was_opened_is_not_trained(tmp_path: Path) -> None:
    trainer(tmp_path / "run").fit()
    resumed = Trainer.resume(tmp_path / "run")
    trainer(tmp_path / "run", overwrite=True).fit()
    with pytest.raises(RunBusyError, match="run was replaced by another run: resume that one"):
        resumed.fit()


def test_a_run_is_locked_until_it_is_overwritten(tmp_path: Path) -> None:
    trainer(tmp_path / "run").fit()
    run = Run(tmp_path / "run")
    with run.created(overwrite=True) as folder:
        (folder / "new").touch()
        if os.name != "nt":
            with pytest.raises(RunBusyError), Run(tmp_path / "run").lock():
                pass
            with pytest.raises(RunBusyError), Run(tmp_path / "run").created(overwrite=True):
                pass
        assert Run(tmp_path / "run").latest().step == 2
    assert names(tmp_path) == ["run"]
    assert names(tmp_path / "run") == ["checkpoints", "new"]


def test_the_second_of_two_runs_of_one_name_is_refused_in_one_sentence(tmp_path: Path) -> None:
    first = Run(tmp_path / "run").created()
    first.__enter__()
    trainer(tmp_path / "run").fit()
    with pytest.raises(RunExistsError, match="run has just been made by another process: resume it, or name another"):
        first.__exit__(None, None, None)
    assert names(tmp_path) == ["run"]
    Trainer.resume(tmp_path / "run")


def test_a_run_made_meanwhile_is_not_locked_by_the_process_that_comes_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The late one took the lock of the new run, and both were refused."""
    check_new = Run.check_new

    def check_before_the_other_makes_it(run: Run, *, overwrite: bool = False) -> None:
        check_new(run, overwrite=overwrite)
        monkeypatch.undo()
        trainer(tmp_path / "run").fit()

    monkeypatch.setattr(Run, "check_new", check_before_the_other_makes_it)
    with (
        pytest.raises(RunExistsError, match="run has just been made by another process"),
        Run(tmp_path / "run").created(),
        Run(tmp_path / "run").lock(),
    ):
        pass


def test_creating_a_run_removes_nothing_of_others(tmp_path: Path) -> None:
    (tmp_path / ".run-my-precious.tmp").mkdir()
    (tmp_path / ".run-my-precious.tmp" / "thesis.txt").touch()
    with Run(tmp_path / "run10").created() as folder:
        trainer(tmp_path / "run").fit()
        trainer(tmp_path / "run1").fit()
        assert folder.exists()
    assert names(tmp_path) == [".run-my-precious.tmp", "run", "run1", "run10"]
    assert names(tmp_path / ".run-my-precious.tmp") == ["thesis.txt"]


def test_a_change_of_the_working_directory_does_not_split_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    filed = dataset(Path("tokens.bin"))
    leave = At(1, lambda: os.chdir("elsewhere"))
    end = trainer(Path("run"), leave, MetricsFile("run/metrics.jsonl"), LossPlot("run/loss.png"), data=filed).fit()
    assert end.run == tmp_path / "run"
    assert {"loss.png", "metrics.jsonl"} < set(names(tmp_path / "run"))
    assert Run(tmp_path / "run").latest().step == 2
    assert names(tmp_path / "elsewhere") == []


@links
def test_overwriting_through_a_link_leaves_the_link_and_nothing_else(tmp_path: Path) -> None:
    trainer(tmp_path / "disk" / "run").fit()
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "run")
    trainer(tmp_path / "link", overwrite=True).fit()
    assert names(tmp_path) == ["disk", "link"]
    assert names(tmp_path / "disk") == ["run"]
    assert (tmp_path / "link").is_symlink()
    assert Run(tmp_path / "disk" / "run").latest().step == 2


def test_files_of_a_file_manager_in_a_checkpoint_are_ignored(tmp_path: Path) -> None:
    trainer(tmp_path / "run").fit()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (Run(tmp_path / "run").latest().path / name).write_bytes(b"\0")
    assert load(tmp_path / "run")[0].config == SHAPE
    assert Trainer.resume(tmp_path / "run").fit().step == 2


@links
@pytest.mark.parametrize("kind", ["FIFO", "/dev/zero", "folder", "link"])
@pytest.mark.parametrize(
    "name", ["manifest.json", "config.json", "model.safetensors", "tokenizer.json", "trainer.json"]
)
def test_a_file_of_another_kind_in_a_checkpoint_is_skipped_for_an_older_one(
    tmp_path: Path, kind: str, name: str
) -> None:
    trainer(tmp_path / "run").fit()
    path = Run(tmp_path / "run").latest().path / name
    content = path.read_bytes()
    path.unlink()
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        target = tmp_path / "target" if kind == "link" else Path(kind)
        if kind == "link":
            target.write_bytes(content)
        path.symlink_to(target)
    with pytest.warns(UserWarning, match=f"skipped a damaged checkpoint: .*step-000002/{name}"):
        assert Run(tmp_path / "run").latest().step == 1
    with pytest.raises(CheckpointError, match=name):
        load(path.parent)


@pytest.mark.parametrize(
    "content",
    [
        '{"sha256": {"a": 1e999}}',
        '{"sha256": ' + '{"a":' * 900 + "1" + "}" * 901,
        '{"sha256": {"a": "b"}, "more": [[1]]}',
    ],
)
def test_a_manifest_of_other_values_is_skipped_for_an_older_one(tmp_path: Path, content: str) -> None:
    trainer(tmp_path / "run").fit()
    (Run(tmp_path / "run").latest().path / MANIFEST).write_text(content, encoding="utf-8")
    with pytest.warns(UserWarning, match=r"skipped a damaged checkpoint: .*manifest\.json"):
        assert Run(tmp_path / "run").latest().step == 1


@links
@pytest.mark.parametrize("name", ["run.json", "lock", "data/train.bin", "metrics.jsonl", "loss.png"])
def test_a_fifo_in_a_run_is_refused_without_waiting(tmp_path: Path, name: str) -> None:
    trainer(tmp_path / "run").fit()
    (tmp_path / "run" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "run" / name)
    with pytest.raises(CheckpointError, match=name):
        resume(tmp_path / "run")


@links
def test_a_metrics_file_that_is_a_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl: cannot be read \(not a regular file"):
        read_metrics(tmp_path / "metrics.jsonl")


def test_a_read_only_temporary_folder_does_not_block_resuming(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer(tmp_path / "run").fit()

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    assert Trainer.resume(tmp_path / "run").fit().step == 2


def test_a_float64_run_is_resumed_with_the_same_bits(tmp_path: Path) -> None:
    def trained(run: Path, stop: int | None = None) -> dict[str, NDArray[Any]]:
        model = LanguageModel(SHAPE, rng=np.random.default_rng(0)).astype(np.float64)
        config = dataclasses.replace(CONFIG, steps=6)
        callbacks = [] if stop is None else [At(stop, lambda: os.kill(os.getpid(), signal.SIGINT))]
        Trainer(model, *dataset().split(), config, callbacks, run=run).fit()
        if stop is not None:
            assert Run(run).latest().step == stop
            Trainer.resume(run).fit()
        return read_arrays(Run(run).latest().path / "model.safetensors")

    whole, resumed = trained(tmp_path / "whole"), trained(tmp_path / "resumed", stop=3)
    for name, array in whole.items():
        assert array.dtype == np.float64
        np.testing.assert_array_equal(resumed[name], array)


def test_a_model_with_a_padded_vocabulary_is_trained_and_sampled(tmp_path: Path) -> None:
    model = LanguageModel(dataclasses.replace(SHAPE, vocab_size=64), rng=np.random.default_rng(0))
    Trainer(model, *dataset().split(), CONFIG, run=tmp_path / "run").fit()
    loaded, tokenizer = load(tmp_path / "run")
    assert loaded.config.vocab_size == 64 > tokenizer.vocab_size
    pieces = TextGenerator(loaded, tokenizer).stream(
        "to be", max_new_tokens=200, temperature=100.0, rng=np.random.default_rng(0)
    )
    assert len("".join(pieces)) == 200
