"""Checkpoints that are damaged, come from elsewhere, or want to run code."""

import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import mutations
import pytest
import tiny

from axone.llm import Callback, CheckpointError, LanguageModel, StepEvent, Trainer, load
from axone.llm.checkpoints.checkpoint import MANIFEST, Checkpoint, TrainingState
from axone.llm.checkpoints.run import Run
from axone.llm.storage.atomic import json_bytes
from axone.llm.storage.json_schema import from_json


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    tiny.trainer(run, 6).fit()
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def checkpoint(run: Path) -> Path:
    return run / "checkpoints" / "step-000006"


def test_300_damaged_checkpoints_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mutations.trials(tmp_path, 300, seed=1) == 0, capsys.readouterr().out
    assert "  300  damaged checkpoints" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process's peak anew")
def test_loading_takes_little_more_memory_than_the_file(tmp_path: Path) -> None:
    assert mutations.memory(tmp_path) == 0


def test_a_file_that_is_not_in_the_manifest_is_refused(checkpoint: Path) -> None:
    (checkpoint / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"notes\.txt: is not in the manifest"):
        load(checkpoint)


def test_a_manifest_without_a_required_file_is_refused(checkpoint: Path) -> None:
    content = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    del content["sha256"]["config.json"]
    (checkpoint / MANIFEST).write_bytes(json_bytes(content))
    (checkpoint / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"must hold the sum of config\.json"):
        Checkpoint(checkpoint).verify()


def test_a_checkpoint_under_the_name_of_another_step_is_skipped(run: Path) -> None:
    newest = run / "checkpoints" / "step-000006"
    shutil.rmtree(newest)
    shutil.copytree(run / "checkpoints" / "step-000005", newest)
    with pytest.warns(UserWarning, match="is of another step than its name says"):
        assert Run(run).latest().step == 5


def test_a_run_that_was_resumed_from_an_older_checkpoint_keeps_two_valid_ones(run: Path) -> None:
    """The damaged newest one is not counted among those to keep, and is replaced when training gets there."""
    damaged = run / "checkpoints" / "step-000006" / "config.json"
    damaged.write_text("{}", encoding="utf-8")

    class Look(Callback):
        def on_step(self, event: StepEvent) -> None:
            assert event.step == 6

    with pytest.warns(UserWarning, match=r"skipped a damaged checkpoint: .*step-000006"):
        trainer = Trainer.resume(run, [Look()])
    trainer.fit()
    assert Run(run).latest().step == 6
    for found in Run(run).checkpoints():
        found.verify()


# Audit hooks cannot be removed: one for all tests, which is asked to listen.
_found: list[str] | None = None


def _listen(event: str, arguments: tuple[Any, ...]) -> None:
    if _found is not None and event == "pickle.find_class":
        _found.append(".".join(map(str, arguments)))


sys.addaudithook(_listen)


@pytest.fixture
def pickles() -> Iterator[list[str]]:
    """Return the list of what pickles look for while the test runs."""
    global _found  # noqa: PLW0603 - as the hook, for the whole process
    _found = []
    yield _found
    _found = None


class Bomb:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("exploded",))


def test_loading_never_unpickles(run: Path, pickles: list[str]) -> None:
    load(run)
    Trainer.resume(run).fit()
    assert pickles == []
    pickle.loads(pickle.dumps(Path("a")))  # noqa: S301 - the hook is not deaf
    assert pickles != []


@pytest.mark.parametrize("name", ["model.safetensors", "trainer.safetensors", "config.json", "tokenizer.json"])
def test_a_pickle_under_a_known_name_is_refused_unread(
    checkpoint: Path, name: str, pickles: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(checkpoint.parent)
    (checkpoint / name).write_bytes(pickle.dumps(Bomb()))
    for vouched in (True, False):
        if not vouched:
            (checkpoint / MANIFEST).unlink()
        read = (
            Checkpoint(checkpoint).optimizer_state
            if name.startswith("trainer") and not vouched
            else partial(load, checkpoint)
        )
        with pytest.raises(CheckpointError, match=re.escape(name)):
            read()
    assert pickles == []
    assert not Path("exploded").exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_a_pickle_instead_of_weights_is_refused_by_name(tmp_path: Path, model: LanguageModel, name: str) -> None:
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"{name}: is a pickle, which can run any code and is never read here"):
        LanguageModel.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not JSON"),
        ('{"step": 1, "step": 2}', "a name appears twice"),
        ('{"step": NaN}', "NaN is not a number of JSON"),
        ('{"step": 1' + "0" * 5000 + "}", "is not JSON"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "is nested too deeply|is not JSON"),
        ("[1]", "must hold a JSON object"),
        ("\xff", "is not JSON"),
        ("{}", "step is missing"),
        ('{"step": 1.0}', r"step \(1\.0\) must be a whole number"),
        ('{"step": true}', r"step \(True\) must be a whole number"),
        ('{"step": -1}', "must not be negative"),
        ('{"step": 1, "best_loss": "low"}', r"best_loss \('low'\) must be a number or null"),
        ('{"step": 1, "best_loss": 1e999}', "is not JSON .1e999 is too large a number"),
        ('{"step": 1, "environment": []}', r"environment \(\[\]\) must be a JSON object"),
        ('{"step": 1, "best_loss": 1' + "0" * 400 + "}", "must be a number or null"),
        ('{"step": 1, "environment": ' + '{"a":' * 40 + "1" + "}" * 41, "is nested too deeply"),
        ('{"step": 1, "colour": "red"}', "'colour' is not known here"),
    ],
)
def test_other_json_than_a_training_state_is_refused(checkpoint: Path, content: str, reason: str) -> None:
    (checkpoint / "trainer.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=reason):
        Checkpoint(checkpoint).training_state()


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (("trainer", "steps"), "many", r"steps \('many'\) must be a whole number"),
        (("trainer", "steps"), 0, r"steps \(0\) must be at least 1"),
        (("trainer", "betas"), [0.9], r"betas \(\[0\.9\]\) must be a list of 2, each a number"),
        (("trainer", "betas"), [0.9, "x"], r"betas \('x'\) must be a number"),
        (("trainer", "optimizer"), "adagrad", r"optimizer \('adagrad'\) must be 'adamw' or 'muon' or 'sgd'"),
        (("trainer", "max_grad_norm"), True, r"max_grad_norm \(True\) must be a number or null"),
        (("trainer", "context_length"), 17, r"context_length \(17\) must be at most that of the model \(16\)"),
        (("trainer",), None, "must hold a JSON object for TrainerConfig"),
        (("data",), [], "must say which data"),
        (("data", "train", "start"), -1, "must hold tokens -1 to"),
        (("data", "train", "stop"), 10**9, "must hold tokens 0 to 1000000000"),
        (("data", "train", "path"), "gone.bin", "gone.bin.json: cannot be read"),
        (("data", "train", "path"), "a\0b", r"path \(.*\) must name a file"),
        (("data", "train", "path"), "../other/train.bin", r"path \('../other/train.bin'\) must be inside the run"),
        (("data", "train", "path"), "/train.bin", "must be inside the run"),
        (("data", "train", "path"), "", r"path \(''\) must name a file"),
        (("data", "train", "path"), "\ud800", "surrogates not allowed"),
        (("data", "train", "path"), 5, r"path \(5\) must be a string"),
    ],
)
def test_other_json_than_options_is_refused(run: Path, place: tuple[str, ...], value: object, reason: str) -> None:
    options = json.loads((run / "run.json").read_text(encoding="utf-8"))
    part = options
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    (run / "run.json").write_text(json.dumps(options), encoding="utf-8")
    with pytest.raises(CheckpointError, match=reason):
        Trainer.resume(run)


def test_the_state_of_another_optimizer_is_refused(run: Path) -> None:
    options = json.loads((run / "run.json").read_text(encoding="utf-8"))
    options["trainer"]["optimizer"] = "sgd"
    (run / "run.json").write_text(json.dumps(options), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"does not fit its run .*adamw"):
        Trainer.resume(run).fit()


def test_tokens_that_changed_are_refused(run: Path) -> None:
    path = run / "data" / "train.bin"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"train\.bin: is damaged"):
        Trainer.resume(run)


def test_a_training_state_survives_json() -> None:
    progress = TrainingState(step=7, best_loss=1.5, environment={"numpy": "2"}).measured(1.25)
    assert progress.evaluations_since_best == 0
    assert progress.measured(1.25).evaluations_since_best == 1
    assert from_json(TrainingState, json.loads(json_bytes(progress.__dict__)), Path("a")) == progress


def test_an_absurd_configuration_costs_no_memory(tmp_path: Path, model: LanguageModel) -> None:
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for change in ({"vocab_size": 10**15}, {"n_layer": 10**12}, {"n_embd": 2**40, "n_head": 1}):
        path.write_text(json.dumps({**content, **change}), encoding="utf-8")
        with pytest.raises(CheckpointError, match=r"must have shape|fewer tensors|cannot be built|no tensor"):
            LanguageModel.from_pretrained(tmp_path)


def test_a_tokenizer_of_more_tokens_than_the_model_is_refused(run: Path, checkpoint: Path) -> None:
    (checkpoint / MANIFEST).unlink()
    content = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = content["model"]["vocab"]
    vocabulary["Ω"] = len(vocabulary)
    (checkpoint / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(
        CheckpointError, match=r"vocab_size of the tokenizer \(30\) must be at most that of the model \(29\)"
    ):
        load(checkpoint)
