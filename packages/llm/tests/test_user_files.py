"""Files of the user: nothing of theirs is replaced, removed, or written through a link."""

import contextlib
import dataclasses
import hashlib
import os
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from short_run import CONFIG, SHAPE, TEXT, TOKENIZER, At, dataset, names, resume, trainer

from axone.llm import (
    CheckpointError,
    LanguageModel,
    LossPlot,
    MetricsFile,
    Run,
    RunBusyError,
    RunExistsError,
    TokenDataset,
    Trainer,
    cached_dataset,
    load,
)
from axone.llm.pretrained.gguf.writer import write_gguf
from axone.llm.storage.safetensors import write_arrays

links = pytest.mark.skipif(os.name == "nt", reason="Windows makes links only with a privilege")


def test_a_json_file_of_the_user_beside_a_token_file_is_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("my own", encoding="utf-8")
    dataset(tmp_path / "notes.bin")
    assert (tmp_path / "notes.json").read_text(encoding="utf-8") == "my own"
    assert names(tmp_path) == ["notes.bin", "notes.bin.json", "notes.json"]


def test_two_token_files_that_differ_in_their_suffix_stay_whole(tmp_path: Path) -> None:
    dataset(tmp_path / "corpus.v1")
    dataset(tmp_path / "corpus.v2", TEXT.upper().lower() + "to be")
    for name in ("corpus.v1", "corpus.v2"):
        TokenDataset.open(tmp_path / name, TOKENIZER)


@pytest.mark.parametrize("name", ["notes.bin", "notes.bin.json", "notes.bin.documents"])
def test_a_file_that_is_not_part_of_a_token_file_is_never_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("my own", encoding="utf-8")
    for write in (dataset, dataset().write):
        with pytest.raises(CheckpointError, match=f"{name}: exists, and is not part of a token file"):
            write(tmp_path / "notes.bin")
    assert (tmp_path / name).read_text(encoding="utf-8") == "my own"
    assert names(tmp_path) == [name]


def test_an_empty_file_becomes_a_token_file(tmp_path: Path) -> None:
    (tmp_path / "notes.bin").touch()
    assert len(dataset(tmp_path / "notes.bin")) == len(TEXT)


def test_a_token_file_of_format_0_is_used_where_it_is(tmp_path: Path) -> None:
    old = Path(__file__).parent / "fixtures" / "run_format_0" / "adamw"
    shutil.copytree(old / "data", tmp_path / "data")
    tokenizer = load(old)[1]
    opened = TokenDataset.open(tmp_path / "data" / "tokens.bin", tokenizer)
    assert (len(opened), opened.num_documents) == (197, 2)
    content = (tmp_path / "data" / "tokens.json").read_bytes()
    TokenDataset.from_text("the quick brown fox", tokenizer, tmp_path / "data" / "tokens.bin")
    assert (tmp_path / "data" / "tokens.json").read_bytes() == content


def test_a_text_that_is_a_path_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text(TEXT, encoding="utf-8")
    with pytest.raises(TypeError, match=r"text must be a string, not \w*Path: read a file with read_text"):
        TokenDataset.from_text(tmp_path / "notes.txt", TOKENIZER)  # type: ignore[arg-type]  # the fault
    with pytest.raises(ValueError, match=r"text \('notes\.txt'\) is the name of a file: read it with read_text"):
        TokenDataset.from_text("notes.txt", TOKENIZER)
    with pytest.raises(TypeError, match="texts must be several documents, not one string"):
        TokenDataset.from_texts("to be", TOKENIZER)


def test_a_token_file_that_is_cut_short_does_not_end_the_process(tmp_path: Path) -> None:
    filed = dataset(tmp_path / "tokens.bin")
    os.truncate(tmp_path / "tokens.bin", 8)
    for use in (lambda: filed.batch(0, 0, 2, 8), lambda: filed.num_bytes, lambda: filed.write(tmp_path / "copy.bin")):
        with pytest.raises(CheckpointError, match=r"tokens\.bin: was cut short from 1,720 to 8 bytes"):
            use()


def test_a_token_file_that_is_cut_short_loses_no_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def cut() -> None:
        (path,) = (run / "data").glob("*.bin")
        os.truncate(path, 8)

    with pytest.raises(CheckpointError, match="was cut short"):
        trainer(run, At(1, cut), data=dataset(tmp_path / "tokens.bin")).fit()
    assert Run(run).latest().step == 0


@pytest.mark.parametrize("current", [True, False])
def test_a_token_file_is_hashed_at_most_once_at_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, current: bool
) -> None:
    if current:
        dataset(tmp_path / "tokens.bin")
    hashed: list[object] = []
    original = hashlib.file_digest

    def count(file: Any, name: str) -> Any:
        hashed.append(file)
        return original(file, name)

    monkeypatch.setattr(hashlib, "file_digest", count)
    filed = dataset(tmp_path / "tokens.bin")
    assert len(hashed) == current
    trainer(tmp_path / "run", data=filed).fit()
    files = len(names(Run(tmp_path / "run").latest().path)) - 1  # all but the manifest
    hashed.clear()
    Trainer.resume(tmp_path / "run")
    assert len(hashed) == files + 1


def outside(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def save_pretrained(folder: Path) -> None:
    LanguageModel(SHAPE, rng=np.random.default_rng(0)).save_pretrained(folder)


def train_new(folder: Path) -> None:
    trainer(folder, MetricsFile(folder / "metrics.jsonl"), LossPlot(folder / "loss.png"), overwrite=True).fit()


WRITES: dict[str, Callable[[Path], object]] = {
    "save_pretrained": save_pretrained,
    "tokenizer": TOKENIZER.save,
    "token file": lambda folder: dataset(folder / "tokens.bin"),
    "cache": lambda folder: cached_dataset([TEXT], "text", TOKENIZER, cache=folder),
    "arrays": lambda folder: write_arrays(folder / "a.safetensors", {"a": np.ones(3)}),
    "gguf": lambda folder: write_gguf(folder / "a.gguf", {"general.architecture": "llama"}, {}),
    "new run": train_new,
    "resumed run": resume,
}
ENTRIES = [
    "config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "tokens.bin", "tokens.bin.json", "tokens.bin.documents", "tokens", "a.safetensors", "a.gguf",
    "run.json", "lock", "metrics.jsonl", "loss.png", "data", "checkpoints", "checkpoints/step-000002",
    "checkpoints/step-000003", "checkpoints/step-000002/config.json", "data/train.bin",
]  # fmt: skip


@links
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(write=st.sampled_from(sorted(WRITES)), linked=st.sets(st.sampled_from(ENTRIES), min_size=1, max_size=6))
def test_no_public_write_follows_a_link_out_of_its_folder(
    tmp_path_factory: pytest.TempPathFactory, trained_run: Path, write: str, linked: set[str]
) -> None:
    """A link may be replaced, or refused in one sentence: what it names stays as it is."""
    root = tmp_path_factory.mktemp("links")
    target, folder = root / "outside", root / "folder"
    target.mkdir()
    if write == "resumed run":
        shutil.copytree(trained_run, folder)
    else:
        folder.mkdir()
    for name in sorted(linked):
        path = folder / name
        if not path.parent.is_dir() or path.parent.is_symlink():
            continue
        own = target / name.replace("/", "-")
        if path.is_dir() or path.exists():
            shutil.move(path, own)
        elif "." in path.name or name == "lock":
            own.write_text("precious", encoding="utf-8")
        else:
            own.mkdir()
        path.symlink_to(own)
    before = outside(target)
    with contextlib.suppress(CheckpointError, RunExistsError, RunBusyError, OSError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        WRITES[write](folder)
    assert outside(target) == before


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run with one step to go."""
    run = tmp_path_factory.mktemp("trained") / "run"
    model = LanguageModel(SHAPE, rng=np.random.default_rng(0))
    config = dataclasses.replace(CONFIG, steps=3)
    stop = At(2, lambda: os.kill(os.getpid(), signal.SIGINT))
    Trainer(model, *dataset().split(), config, [stop, MetricsFile(run / "metrics.jsonl")], run=run).fit()
    return run


@links
@pytest.mark.parametrize("name", ["lock", "metrics.jsonl", "loss.png", "checkpoints", "data", "run.json"])
def test_a_run_with_a_link_that_leaves_it_is_not_resumed(tmp_path: Path, trained_run: Path, name: str) -> None:
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    if (run / name).exists():
        shutil.move(run / name, tmp_path / "target")
    else:
        (tmp_path / "target").write_text("precious", encoding="utf-8")
    (run / name).symlink_to(tmp_path / "target")
    with pytest.raises(
        CheckpointError, match=f"{name}: (is a symbolic link that leaves the run|must be a regular file)"
    ):
        Trainer.resume(run).fit()
