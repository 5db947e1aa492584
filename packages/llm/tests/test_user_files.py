"""Files of the user: nothing of theirs is replaced, removed, or written through a link."""

import contextlib
import dataclasses
import errno
import hashlib
import os
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from axone.llm import (
    Callback,
    CheckpointError,
    LanguageModel,
    LanguageModelConfig,
    LossPlot,
    MetricsFile,
    Run,
    RunBusyError,
    RunExistsError,
    StepEvent,
    TextGenerator,
    TokenDataset,
    Trainer,
    TrainerConfig,
    cached_dataset,
    load,
    read_metrics,
)
from axone.llm.checkpoints.checkpoint import MANIFEST
from axone.llm.pretrained.gguf.writer import write_gguf
from axone.llm.storage.safetensors import read_arrays, write_arrays
from axone.tokenizer import CharTokenizer

TEXT = "to be, or not to be, that is the question. " * 20
TOKENIZER = CharTokenizer.train(TEXT + "\n")
CONFIG = TrainerConfig(steps=2, batch_size=2, context_length=8, workers=1, eval_every=1, eval_sequences=2)
SHAPE = LanguageModelConfig(vocab_size=TOKENIZER.vocab_size, context_length=8, num_layers=1, num_heads=1, embed_dim=4)

links = pytest.mark.skipif(os.name == "nt", reason="Windows makes links only with a privilege")


def dataset(path: Path | None = None, text: str = TEXT) -> TokenDataset:
    return TokenDataset.from_text(text, TOKENIZER, path)


def trainer(run: Path, *callbacks: Callback, data: TokenDataset | None = None, overwrite: bool = False) -> Trainer:
    model = LanguageModel(SHAPE, rng=np.random.default_rng(0))
    return Trainer(model, *(data or dataset()).split(), CONFIG, callbacks, run=run, overwrite=overwrite)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class At(Callback):
    """Calls a function after a step."""

    def __init__(self, step: int, action: Callable[[], object]) -> None:
        self._step, self._action = step, action

    def on_step(self, event: StepEvent) -> None:
        if event.step == self._step:
            self._action()


# Token files


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


# Runs


def test_two_datasets_of_one_file_name_stay_two_in_a_run(tmp_path: Path) -> None:
    for name in ("train", "validation"):
        (tmp_path / name).mkdir()
    one = dataset(tmp_path / "train" / "tokens.bin")
    other = dataset(tmp_path / "validation" / "tokens.bin", TEXT[::-1])
    model = LanguageModel(SHAPE, rng=np.random.default_rng(0))
    Trainer(model, one, other, CONFIG, run=tmp_path / "run").fit()
    resumed = Trainer.resume(tmp_path / "run")
    np.testing.assert_array_equal(resumed.train_data.tokens, one.tokens)
    np.testing.assert_array_equal(resumed.validation_data.tokens, other.tokens)


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
    np.testing.assert_array_equal(resumed.validation_data.tokens, validation.tokens)
    assert resumed.train_data.num_documents == train.num_documents == 2


def test_a_token_file_that_was_replaced_after_it_was_opened_is_stored_as_it_was(tmp_path: Path) -> None:
    old = dataset(tmp_path / "tokens.bin")
    dataset(tmp_path / "tokens.bin", TEXT[::-1])  # another training, on a text that has changed
    with pytest.warns(UserWarning, match="cannot be linked into the run"):
        trainer(tmp_path / "run", data=old).fit()
    resumed = Trainer.resume(tmp_path / "run")
    np.testing.assert_array_equal(resumed.train_data.tokens, old.split()[0].tokens)


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
    end = trainer(Path("run"), At(1, lambda: os.chdir("elsewhere")), data=filed).fit()
    assert end.run == tmp_path / "run"
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


# Links


def outside(folder: Path) -> dict[str, bytes]:
    """Return the content of all files below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def save_pretrained(folder: Path) -> None:
    LanguageModel(SHAPE, rng=np.random.default_rng(0)).save_pretrained(folder)


def train_new(folder: Path) -> None:
    trainer(folder, MetricsFile(folder / "metrics.jsonl"), LossPlot(folder / "loss.png"), overwrite=True).fit()


def resume(folder: Path) -> None:
    resumed = Trainer.resume(folder, [MetricsFile(folder / "metrics.jsonl"), LossPlot(folder / "loss.png")])
    resumed.fit()


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
