"""Trainer: trains a model on a dataset, in a run's folder or without one.

`TrainingStep` computes the steps, `TrainingLoop` holds the schedule, and `Run` the folder. The trainer prints nothing:
callbacks receive every event. Batches and dropout masks are functions of (seed, step, worker, layer), so that a resumed
run continues bit for bit.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from axone.llm.adapters.adapter import Adapter
from axone.llm.checkpoints.adapter_files import AdapterFiles, is_adapter, open_adapted
from axone.llm.checkpoints.bundle import ModelBundle
from axone.llm.checkpoints.checkpoint import Checkpoint, ModelFiles, TrainingState
from axone.llm.checkpoints.dataset_ref import open_datasets, read_ref, store_datasets
from axone.llm.checkpoints.run import Run
from axone.llm.checkpoints.run_format import OPTIONS
from axone.llm.data.training_data import TrainingData
from axone.llm.errors import CheckpointError, RunBusyError, warn_caller
from axone.llm.loss import bits_per_byte
from axone.llm.model import LanguageModel
from axone.llm.runtime import resources
from axone.llm.runtime.data_parallel import DataParallel
from axone.llm.runtime.signals import record_signals
from axone.llm.storage.json_schema import from_json
from axone.llm.training.callbacks import Callback, EndEvent, StartEvent, closing
from axone.llm.training.config import TrainerConfig
from axone.llm.training.estimate import Estimate, estimate
from axone.llm.training.loop import TrainingLoop
from axone.llm.training.optimizers import Optimizers
from axone.llm.training.step import TrainingStep


class Trainer:
    """Trains a language model on tokens of a text or on conversations, or an adapter of it.

    Parameters that do not require a gradient are frozen.

    Parameters
    ----------
    model : LanguageModel
    train_data, validation_data : TrainingData
        Such as `TokenDataset` and `Conversations`.
    config : TrainerConfig
    callbacks : sequence of Callback
    run : path, optional
        Folder of the run, created by `fit`; None writes nothing.
    overwrite : bool, default False
        Whether an existing run may be replaced.
    notes : mapping, optional
        JSON values to store in ``run.json`` beside the trainer's options.
    adapter : Adapter, optional
        The adapter of the model: checkpoints then hold it alone, and the name of its base, which must be a path.
    chat_template_text : str, optional
        The model's chat template, for its checkpoints.

    Attributes
    ----------
    model, train_data, validation_data, config, callbacks
        As given.
    run : Run or None
    notes : dict
        As given, or as stored in the resumed run.

    Raises
    ------
    ValueError
        If a text is shorter than one sequence, or if sequences or vocabulary exceed those of the model.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.llm import (
    ...     LanguageModel,
    ...     LanguageModelConfig,
    ...     TokenDataset,
    ...     Trainer,
    ...     TrainerConfig,
    ... )
    >>> from axone.tokenizer import CharTokenizer
    >>> text = "how much wood would a woodchuck chuck if a woodchuck could chuck wood? " * 9
    >>> train, validation = TokenDataset.from_text(text, CharTokenizer.train(text)).split()
    >>> shape = LanguageModelConfig(
    ...     vocab_size=17, context_length=8, num_layers=1, num_heads=1, embed_dim=8
    ... )
    >>> model = LanguageModel(shape, rng=np.random.default_rng(0))
    >>> config = TrainerConfig(steps=20, batch_size=4, context_length=8, workers=1)
    >>> end = Trainer(model, train, validation, config).fit()
    >>> end.outcome, end.step
    ('finished', 20)
    """

    def __init__(
        self,
        model: LanguageModel,
        train_data: TrainingData,
        validation_data: TrainingData,
        config: TrainerConfig,
        callbacks: Sequence[Callback] = (),
        *,
        run: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        notes: Mapping[str, Any] | None = None,
        adapter: Adapter | None = None,
        chat_template_text: str | None = None,
    ) -> None:
        if config.context_length > model.config.context_length:
            raise ValueError(
                f"context_length ({config.context_length}) must be at most that of the model "
                f"({model.config.context_length})"
            )
        bundle = ModelBundle(model, train_data.tokenizer, chat_template_text)
        self._files: ModelFiles = bundle if adapter is None else AdapterFiles(adapter)
        self.adapter = adapter
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

    def __repr__(self) -> str:
        config, step = self.config, "" if self._resumed is None else f" from step {self._resumed.step}"
        return (
            f"Trainer({type(self.model).__name__} of {self.model.num_parameters():,} parameters, "
            f"{self.train_data.num_targets:,} tokens and {self.validation_data.num_targets:,} held out, "
            f"{config.steps:,} steps of {config.batch_size} x {config.context_length} tokens{step}, "
            f"{'no run' if self.run is None else self.run})"
        )

    @classmethod
    def resume(cls, run: str | os.PathLike[str], callbacks: Sequence[Callback] = ()) -> Trainer:
        """Return a trainer that continues from a run's newest valid checkpoint.

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
            If the folder does not hold a run, or its data is missing.
        """
        place = Run(run)
        path, options = place.path / OPTIONS, place.options()
        seen = [checkpoint.path for checkpoint in place.checkpoints()]
        checkpoint = place.latest()
        adapter = None
        if is_adapter(checkpoint.path):
            found, adapter = open_adapted(checkpoint.path)
        else:
            found = ModelBundle.read(checkpoint.path)
        parts = options.pop("data", None)
        if not isinstance(parts, dict) or set(parts) != {"train", "validation"}:
            raise CheckpointError(path, "must say which data to train and to validate on")
        refs = {name: read_ref(part, path) for name, part in parts.items()}
        data = open_datasets(place.path, refs, found.tokenizer)
        config = from_json(TrainerConfig, options.pop("trainer", None), path)
        try:
            trainer = cls(
                found.model,
                data["train"],
                data["validation"],
                config,
                callbacks,
                notes=options,
                adapter=adapter,
                chat_template_text=found.chat_template_text,
            )
        except ValueError as error:
            raise CheckpointError(path, str(error)) from error
        trainer.run, trainer._resumed, trainer._seen = place, checkpoint, seen
        return trainer

    def estimate(self) -> Estimate:
        """Measure a few steps with a learning rate of 0, and predict the time and memory of the training.

        Returns
        -------
        Estimate

        Raises
        ------
        NotEnoughMemoryError
            If the training needs more memory than is free.
        """
        return estimate(self.model, self.train_data, self.validation_data, self.config)

    def fit(self) -> EndEvent:
        """Train from the first step, or from the checkpoint that was resumed.

        Returns
        -------
        EndEvent
            Result. After SIGINT or SIGTERM the step has been finished and saved.

        Raises
        ------
        TypeError
            If a callback lacks a method of `Callback`; nothing is written then.
        RunExistsError
            If the run's folder exists and is neither resumed nor overwritten.
        RunBusyError
            If another process trains in the run, or has trained in it since it was opened.
        TrainingDivergedError
            If a loss or gradient is not finite; the last checkpoint stays.
        OSError
            If the run cannot be written, or a worker process is killed; the last checkpoint stays, and a run without one
            is removed.
        Exception
            Any error of a callback, after the step has been saved.
        """
        with closing(list(self.callbacks)):
            return self._fit()

    def _fit(self) -> EndEvent:
        """Train with the run's folder locked, if there is one."""
        if self.run is None:
            return self._train(None)
        if self._resumed is None:
            with self.run.created(overwrite=self._overwrite) as folder:
                self._write_options(self.run, folder)
        with self.run.lock():
            if self._resumed is not None and [checkpoint.path for checkpoint in self.run.checkpoints()] != self._seen:
                raise RunBusyError(
                    f"{self.run.path} has been trained by another process since it was opened: resume it again"
                )
            self.run.clean()
            try:
                return self._train(self.run)
            except BaseException as error:
                if self._resumed is None:
                    self.run.discard_unsaved()
                if isinstance(error, ChildProcessError) and self.run.path.exists():
                    raise ChildProcessError(f"{error}; resume {self.run.path} from its last checkpoint") from error
                raise

    def _train(self, run: Run | None) -> EndEvent:
        config, began = self.config, time.perf_counter()
        path = run.path if run else None
        with contextlib.ExitStack() as handlers:
            signals = handlers.enter_context(record_signals())
            with DataParallel(
                self.model, config.num_replicas, num_workers=config.num_workers, allow_fork=True
            ) as workers:
                steps = TrainingStep(workers, config, self.train_data, self.validation_data)
                state = self._restore(steps.optimizers)
                steps.start()
                save = None if run is None else partial(self._save, run, steps.optimizers)
                tokens = self.train_data.tokens_per_batch(config.batch_size, config.context_length)
                tokens *= config.gradient_accumulation_steps
                loop = TrainingLoop(
                    steps, self.validation_data, config, self.callbacks, signals, save, tokens_per_step=tokens
                )
                for callback in self.callbacks:
                    callback.on_start(StartEvent(state.step, config.steps, tokens, path))
                state, outcome = loop.run(state, saved=self._resumed is not None)
            self.model.eval()
            data, loss = self.validation_data, state.latest_loss
            end = EndEvent(
                outcome=outcome,
                step=state.step,
                validation_loss=loss,
                bits_per_byte=None if loss is None else bits_per_byte(loss, data.num_targets, data.num_bytes),
                best_loss=state.best_loss,
                seconds=time.perf_counter() - began,
                run=path,
            )
            if signals.number is None:  # after a signal, a second one must not interrupt on_end
                handlers.close()
            for callback in self.callbacks:
                callback.on_end(end)
        return end

    def _restore(self, optimizers: Optimizers) -> TrainingState:
        """Load the optimizer's state of the checkpoint, if there is one, and return the training state."""
        if self._resumed is None:
            return TrainingState(step=0)
        state = self._resumed.training_state()
        try:
            optimizers.load_state_dict(self._resumed.optimizer_state())
        except ValueError as error:
            raise CheckpointError(self._resumed.path, f"does not fit its run ({error})") from error
        before, now = state.environment, self._environment()
        changed = [f"{name} {before.get(name)} is now {now[name]}" for name in now if now[name] != before.get(name)]
        if changed:
            warn_caller(f"the run continues with other bits than an uninterrupted one: {'; '.join(changed)}")
        return replace(state, environment={})

    def _save(self, run: Run, optimizers: Optimizers, state: TrainingState) -> Path:
        state = replace(state, environment=self._environment())
        return run.save(self._files, state, optimizers.state_dict()).path

    def _environment(self) -> dict[str, Any]:
        return {**resources.environment(), "replicas": self.config.num_replicas, "workers": self.config.num_workers}

    def _write_options(self, run: Run, folder: Path) -> None:
        refs = store_datasets(folder, {"train": self.train_data, "validation": self.validation_data})
        data = {name: asdict(ref) for name, ref in refs.items()}
        run.write_options(folder, {**self.notes, "trainer": asdict(self.config), "data": data})
