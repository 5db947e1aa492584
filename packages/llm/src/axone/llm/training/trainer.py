"""Trainer: puts a model, its data and a run together, and trains.

Thin on purpose: how a step is made, `training_step` knows; what is done when, `loop`; what a run holds, `run`. It prints
nothing: callbacks hear of every event. Batches and dropout masks are functions of (seed, step, worker, layer), so a run
that is resumed goes on bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from axone.llm.checkpoints.bundle import ModelBundle
from axone.llm.checkpoints.checkpoint import Checkpoint, TrainingState
from axone.llm.checkpoints.dataset_ref import DatasetRef, store_dataset
from axone.llm.checkpoints.run import OPTIONS, RUN_FORMAT, Run
from axone.llm.data.dataset import TokenDataset
from axone.llm.errors import CheckpointError, RunBusyError
from axone.llm.loss import bits_per_byte
from axone.llm.model import LanguageModel
from axone.llm.runtime import resources
from axone.llm.runtime.data_parallel import DataParallel
from axone.llm.runtime.signals import record_signals
from axone.llm.storage.atomic import write_json
from axone.llm.storage.json_schema import from_json
from axone.llm.training.callbacks import Callback, End, Start, closing
from axone.llm.training.config import TrainerConfig
from axone.llm.training.estimate import Estimate, estimate
from axone.llm.training.loop import Loop
from axone.llm.training.optimizers import Optimizers
from axone.llm.training.step import TrainingStep


class Trainer:
    """Trains a language model on a text.

    Parameters
    ----------
    model : LanguageModel
    train_data, validation_data : TokenDataset
    config : TrainerConfig
    callbacks : sequence of Callback
    run : path, optional
        The folder to keep the run in, made by `fit`; None keeps nothing.
    overwrite : bool, default False
        Whether a run that is there may be replaced.
    notes : mapping, optional
        What ``run.json`` shall say besides the trainer's own options: JSON values.

    Attributes
    ----------
    model, train_data, validation_data, config, callbacks
        As given.
    run : Run or None
    notes : dict
        As given, or as the run says that is resumed.

    Raises
    ------
    ValueError
        If a text is too short for one window, or the windows or tokens are not the model's.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.llm import LanguageModel, LanguageModelConfig, TokenDataset, Trainer, TrainerConfig
    >>> from axone.tokenizer import CharTokenizer
    >>> text = "how much wood would a woodchuck chuck if a woodchuck could chuck wood? " * 9
    >>> train, validation = TokenDataset.from_text(text, CharTokenizer.train(text)).split()
    >>> shape = LanguageModelConfig(vocab_size=17, context_length=8, num_layers=1, num_heads=1, embed_dim=8)
    >>> model = LanguageModel(shape, rng=np.random.default_rng(0))
    >>> config = TrainerConfig(steps=20, batch_size=4, context_length=8, workers=1)
    >>> end = Trainer(model, train, validation, config).fit()
    >>> end.outcome, end.step
    ('finished', 20)
    """

    def __init__(
        self,
        model: LanguageModel,
        train_data: TokenDataset,
        validation_data: TokenDataset,
        config: TrainerConfig,
        callbacks: Sequence[Callback] = (),
        *,
        run: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        if config.context_length > model.config.context_length:
            raise ValueError(
                f"the windows must be no longer than the model's context of {model.config.context_length} tokens, and "
                f"are {config.context_length}"
            )
        self._files = ModelBundle(model, train_data.tokenizer)
        train_data.require(config.context_length)
        validation_data.require(config.context_length)
        self.model = model
        self.train_data = train_data
        self.validation_data = validation_data
        self.config = config
        self.callbacks = list(callbacks)
        self.run = None if run is None else Run(run)
        self.notes = dict(notes or {})
        self._overwrite = overwrite
        self._resumed: Checkpoint | None = None
        self._seen: list[Path] = []

    @classmethod
    def resume(cls, run: str | os.PathLike[str], callbacks: Sequence[Callback] = ()) -> Trainer:
        """Return a trainer that goes on from a run's newest whole checkpoint.

        Parameters
        ----------
        run : path
        callbacks : sequence of Callback

        Returns
        -------
        Trainer

        Raises
        ------
        CheckpointError
            If the folder is no run, or its data is gone.
        """
        place = Run(run)
        path, options = place.path / OPTIONS, place.options()
        seen = [checkpoint.path for checkpoint in place.checkpoints()]
        checkpoint = place.latest()
        found = ModelBundle.read(checkpoint.path)
        parts = options.pop("data", None)
        if not isinstance(parts, dict) or set(parts) != {"train", "validation"}:
            raise CheckpointError(path, "must say which data to train and to validate on")
        train, validation = (
            from_json(DatasetRef, parts[name], path).open(place.path, found.tokenizer)
            for name in ("train", "validation")
        )
        config = from_json(TrainerConfig, options.pop("trainer", None), path)
        try:
            trainer = cls(found.model, train, validation, config, callbacks, run=run, notes=options)
        except ValueError as error:
            raise CheckpointError(path, str(error)) from error
        trainer._resumed, trainer._seen = checkpoint, seen
        return trainer

    def estimate(self) -> Estimate:
        """Make some steps without changing the weights, and say what all of them will take.

        Returns
        -------
        Estimate

        Raises
        ------
        NotEnoughMemoryError
            With the numbers, if memory will not do.
        """
        return estimate(self.model, self.train_data, self.validation_data, self.config)

    def fit(self) -> End:
        """Train, or go on training.

        Returns
        -------
        End
            How it ended. After SIGINT or SIGTERM the step has been finished and saved.

        Raises
        ------
        TypeError
            If a callback lacks a method of `Callback`; nothing is written then.
        RunExistsError
            If the run's folder exists and is neither resumed nor overwritten.
        RunBusyError
            If another process trains in the run, or has trained in it since it was opened.
        TrainingDivergedError
            If a loss or gradient is not finite; the last good checkpoint stays.
        OSError
            If the run cannot be written, or a worker process is killed; the last good checkpoint stays, and a run that
            has none yet is removed.
        """
        with closing(list(self.callbacks)):
            return self._fit()

    def _fit(self) -> End:
        """Train in the run's folder, if there is one, with no other process at work there."""
        if self.run is None:
            return self._trained(None)
        if self._resumed is None:
            with self.run.created(overwrite=self._overwrite) as folder:
                self._write_options(folder)
        with self.run.lock():
            if self._resumed is not None and [checkpoint.path for checkpoint in self.run.checkpoints()] != self._seen:
                raise RunBusyError(f"{self.run.path} has been trained on since it was opened: resume it again")
            self.run.clean()
            try:
                return self._trained(self.run)
            except BaseException:
                if self._resumed is None:
                    self.run.discard_unsaved()
                raise

    def _trained(self, run: Run | None) -> End:
        config, began = self.config, time.perf_counter()
        path = run.path if run else None
        with contextlib.ExitStack() as handlers:
            signals = handlers.enter_context(record_signals())
            with DataParallel(
                self.model, config.num_replicas, num_threads=config.num_workers, allow_fork=True
            ) as workers:
                steps = TrainingStep(workers, config, self.train_data, self.validation_data)
                progress = self._restored(steps.optimizers)
                steps.start()
                save = None if run is None else partial(self._save, run, steps.optimizers)
                loop = Loop(steps, self.validation_data, config, self.callbacks, signals, save)
                for callback in self.callbacks:
                    callback.on_start(Start(progress.step, config.steps, config.tokens_per_step, path))
                progress, outcome = loop.run(progress, saved=self._resumed is not None)
            self.model.eval()
            data, loss = self.validation_data, progress.latest_loss
            end = End(
                outcome=outcome,
                step=progress.step,
                validation_loss=loss,
                bits_per_byte=None if loss is None else bits_per_byte(loss, len(data), data.num_bytes),
                best_loss=progress.best_loss,
                seconds=time.perf_counter() - began,
                run=path,
            )
            if signals.number is None:  # else a second signal shall not cut short what the first one led to
                handlers.close()
            for callback in self.callbacks:
                callback.on_end(end)
        return end

    def _restored(self, optimizers: Optimizers) -> TrainingState:
        """Load what was saved, if anything, and return how far training had come."""
        if self._resumed is None:
            return TrainingState(step=0)
        progress = self._resumed.training_state()
        try:
            optimizers.load_state_dict(self._resumed.optimizer_state())
        except ValueError as error:
            raise CheckpointError(self._resumed.path, f"does not fit its run ({error})") from error
        before, now = progress.environment, self._environment()
        changed = [f"{name} {before.get(name)} is now {now[name]}" for name in now if now[name] != before.get(name)]
        if changed:
            warnings.warn(
                f"the run goes on, but not with the same bits as if it had not stopped: {'; '.join(changed)}",
                stacklevel=5,
            )
        return replace(progress, environment={})

    def _save(self, run: Run, optimizers: Optimizers, progress: TrainingState) -> Path:
        progress = replace(progress, environment=self._environment())
        return run.save(self._files, progress, optimizers.state_dict()).path

    def _environment(self) -> dict[str, Any]:
        return {**resources.environment(), "replicas": self.config.num_replicas, "workers": self.config.num_workers}

    def _write_options(self, folder: Path) -> None:
        data = {
            name: asdict(store_dataset(folder, dataset, name))
            for name, dataset in (("train", self.train_data), ("validation", self.validation_data))
        }
        options = {**self.notes, "trainer": asdict(self.config), "data": data}
        write_json(folder / OPTIONS, RUN_FORMAT.stamp(options))
