"""Determinism: equal bits after resuming, in another process, and for any split among workers."""

import dataclasses
import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from axone.llm import Callback, LanguageModel, LanguageModelConfig, StepEvent, TokenDataset, Trainer, TrainerConfig
from axone.llm.checkpoints.checkpoint import Checkpoint
from axone.llm.checkpoints.run import Run
from axone.llm.runtime.data_parallel import DataParallel
from axone.llm.training.step import TrainingStep
from axone.llm.types import Ids

SEQUENCES_IN_AN_EPOCH = 145  # of 16 tokens, in the first 90 % of the text
BATCH = 5


class Losses(Callback):
    """Records losses, and interrupts after a step."""

    def __init__(self, stop: int | None = None) -> None:
        self.losses: list[float] = []
        self._stop = stop

    def on_step(self, event: StepEvent) -> None:
        self.losses.append(event.loss)
        if event.step == self._stop:
            os.kill(os.getpid(), signal.SIGINT)


def state_sum(checkpoint: Checkpoint) -> str:
    """Return the sum of weights and optimizer state, as they are on the disk."""
    files = [checkpoint.path / name for name in ("model.safetensors", "trainer.safetensors")]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


@pytest.mark.parametrize(
    ("optimizer", "accumulation", "dropout", "schedule", "stop"),
    list(itertools.product(["sgd", "adamw", "muon"], [1, 3], [0.0, 0.1], ["constant", "cosine"], ["epoch", "middle"])),
)
def test_a_resumed_run_continues_with_the_same_bits(
    config: LanguageModelConfig,
    dataset: TokenDataset,
    tmp_path: Path,
    optimizer: str,
    accumulation: int,
    dropout: float,
    schedule: str,
    stop: str,
) -> None:
    validation = dataset.split()[1]
    train = dataset.part(0, 12 * BATCH * 16 + 1)  # an epoch is 12 batches
    assert len(train.sequence_starts(16)) == 12 * BATCH
    at = 12 // accumulation if stop == "epoch" else 12 // accumulation - 1
    training = TrainerConfig(
        steps=at + 20,
        batch_size=BATCH,
        context_length=16,
        optimizer=optimizer,  # type: ignore[arg-type]  # one of the choices
        schedule=schedule,  # type: ignore[arg-type]  # likewise
        gradient_accumulation_steps=accumulation,
        learning_rate=3e-3,
        warmup_steps=3,
        sampling="epoch",
        eval_every=17,
        average=0.9 if dropout else 0.0,
        workers=1,
    )

    def start(name: str, callback: Losses) -> Trainer:
        model = LanguageModel(dataclasses.replace(config, num_layers=1, dropout=dropout), rng=np.random.default_rng(0))
        return Trainer(model, train, validation, training, [callback], run=tmp_path / name)

    whole, first, rest = Losses(), Losses(at), Losses()
    start("whole", whole).fit()
    assert start("stopped", first).fit().step == at
    assert Trainer.resume(tmp_path / "stopped", [rest]).fit().outcome == "finished"
    assert len(rest.losses) == 20
    assert first.losses + rest.losses == whole.losses
    assert state_sum(Run(tmp_path / "stopped").latest()) == state_sum(Run(tmp_path / "whole").latest())


PROGRAM = """
import sys
from collections.abc import Iterable
import numpy as np
from axone.llm import LanguageModel, LanguageModelConfig, TokenDataset, Trainer, TrainerConfig
from axone.tokenizer import CharTokenizer

text = "the quick brown fox jumps over the lazy dog. pack my box with five dozen liquor jugs.\\n" * 30
dataset = TokenDataset.from_text(text, CharTokenizer.train(text))
shape = LanguageModelConfig(vocab_size=29, context_length=16, num_layers=2, num_heads=2, embed_dim=16, dropout=0.1)
training = TrainerConfig(steps=20, batch_size=4, context_length=16, eval_every=10, workers=2)
model = LanguageModel(shape, rng=np.random.default_rng(0))
Trainer(model, *dataset.split(), training, run=sys.argv[1]).fit()
"""


def test_two_processes_write_the_same_bits(tmp_path: Path) -> None:
    for name in ("one", "two"):
        subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path / name)], check=True)
    one, two = (Run(tmp_path / name).latest() for name in ("one", "two"))
    assert one.step == two.step == 20
    assert state_sum(one) == state_sum(two)


@pytest.mark.parametrize("workers", [2, 3])
def test_numbers_of_workers_differ_by_rounding_only(
    config: LanguageModelConfig, dataset: TokenDataset, workers: int
) -> None:
    curves = []
    for count in (1, workers):
        losses = Losses()
        model = LanguageModel(config, rng=np.random.default_rng(0))
        training = TrainerConfig(steps=50, batch_size=6, context_length=16, learning_rate=1e-3, workers=count)
        Trainer(model, *dataset.split(), training, [losses]).fit()
        curves.append(np.asarray(losses.losses))
    assert (np.abs(curves[0] - curves[1]) / curves[0]).max() < 1e-5


def test_an_epoch_has_every_sequence_once_and_the_next_another_order(dataset: TokenDataset) -> None:
    train, _ = dataset.split()
    count = len(train.sequence_starts(16))
    first, second = (
        np.concatenate([train.batch(3, number, BATCH, 16, sampling="epoch")[0] for number in range(begin, begin + 29)])
        for begin in (0, 29)
    )
    assert len(first) == count == SEQUENCES_IN_AN_EPOCH
    everything = train.read(train.sequence_starts(16), 16)[0]
    for epoch in (first, second):
        assert sorted(map(tuple, epoch.tolist())) == sorted(map(tuple, everything.tolist()))
    assert (first != second).any()


def test_epochs_need_not_be_whole_batches(dataset: TokenDataset) -> None:
    train, _ = dataset.split()
    batches = [train.batch(3, number, 7, 16, sampling="epoch")[0] for number in range(SEQUENCES_IN_AN_EPOCH)]
    windows, times = np.unique(np.concatenate(batches), axis=0, return_counts=True)
    everything = train.read(train.sequence_starts(16), 16)[0]
    _, twins = np.unique(everything, axis=0, return_counts=True)
    assert len(windows) == len(np.unique(everything, axis=0))
    np.testing.assert_array_equal(np.sort(times), np.sort(7 * twins))


@pytest.mark.parametrize("order", ["random", "epoch"])
def test_all_workers_together_read_the_batches_of_one(
    config: LanguageModelConfig, dataset: TokenDataset, order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[np.ndarray] = []

    def spy(_workers: object, shares: list[Iterable[tuple[Ids, float]]], *_: object) -> float:
        read.append(np.concatenate([starts for share in shares for starts, _ in share]))
        return 0.0

    monkeypatch.setattr(DataParallel, "compute_gradients", spy)
    monkeypatch.setattr(DataParallel, "clip_gradients", lambda _workers, _norm: 0.0)
    for count in (1, 2, 3):
        training = TrainerConfig(steps=4, batch_size=7, context_length=16, workers=count, sampling=order)  # type: ignore[arg-type]  # one of the choices
        with DataParallel(LanguageModel(config), count) as workers:
            step = TrainingStep(workers, training, *dataset.split())
            for number in range(4):
                step.gradients(number)
    for number in range(4):
        np.testing.assert_array_equal(read[number], read[4 + number])
        np.testing.assert_array_equal(read[number], read[8 + number])
    assert (read[0] != read[1]).any()


def set_workers(run: Path, count: int) -> None:
    """Change the number of workers of a run, as another machine does."""
    options = run / "run.json"
    content = json.loads(options.read_text(encoding="utf-8"))
    content["trainer"]["workers"] = count
    options.write_text(json.dumps(content), encoding="utf-8")


def test_a_changed_environment_is_reported(config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path) -> None:
    training = TrainerConfig(steps=4, batch_size=4, context_length=16, eval_every=2, workers=2)
    model = LanguageModel(config, rng=np.random.default_rng(0))
    Trainer(model, *dataset.split(), training, [Losses(2)], run=tmp_path / "run").fit()
    set_workers(tmp_path / "run", 1)
    with pytest.warns(
        UserWarning, match=r"the run continues with other bits than an uninterrupted one: .*workers 2 is now 1"
    ):
        Trainer.resume(tmp_path / "run").fit()
    environment = Run(tmp_path / "run").latest().training_state().environment
    assert {"python", "numpy", "machine", "blas", "blas_threads", "replicas", "workers", "ranks"} == set(environment)


def test_a_changed_number_of_threads_of_one_replica_is_reported(
    config: LanguageModelConfig, dataset: TokenDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("axone.llm.runtime.resources.SMALL_MODEL", 0)
    training = TrainerConfig(steps=4, batch_size=1, context_length=16, eval_every=2, workers=3)
    model = LanguageModel(config, rng=np.random.default_rng(0))
    Trainer(model, *dataset.split(), training, [Losses(2)], run=tmp_path / "run").fit()
    set_workers(tmp_path / "run", 2)
    with pytest.warns(
        UserWarning, match=r"the run continues with other bits than an uninterrupted one: workers 3 is now 2"
    ):
        Trainer.resume(tmp_path / "run").fit()
