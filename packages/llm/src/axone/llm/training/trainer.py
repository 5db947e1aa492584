"""Trainer: trains a model on a dataset, in a run's folder or without one.

`TrainingStep` computes the steps, `TrainingLoop` holds the schedule, and `Run` the folder. The trainer prints nothing:
callbacks receive every event. Batches and dropout masks are functions of (seed, step, worker, layer), so that a resumed
run continues bit for bit.

In a job of several ranks, every rank makes the same trainer. Rank 0 runs the loop, the callbacks and the run; the others
compute their share of each step.
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
from axone.llm.checkpoints.adapter_files import AdapterFiles
from axone.llm.checkpoints.bundle import ModelBundle
from axone.llm.checkpoints.checkpoint import Checkpoint, ModelFiles, TrainingState
from axone.llm.checkpoints.dataset_ref import store_datasets
from axone.llm.checkpoints.run import Run
from axone.llm.checkpoints.run_format import OPTIONS
from axone.llm.data.training_data import TrainingData
from axone.llm.distributed.job import require_same_job, require_shared_folder
from axone.llm.errors import CheckpointError, RankError, RunBusyError, warn_caller
from axone.llm.loss import bits_per_byte
from axone.llm.model import LanguageModel
from axone.llm.quantization import require_float32
from axone.llm.runtime.communicator import Communicator, SingleProcess, run_together, together
from axone.llm.runtime.signals import record_signals
from axone.llm.training.calibration import require_calibration
from axone.llm.training.callbacks import Callback, EndEvent, StartEvent, TrainingOutcome, closing
from axone.llm.training.config import TrainerConfig
from axone.llm.training.estimate import Estimate, estimate
from axone.llm.training.loop import TrainingLoop
from axone.llm.training.opened_run import open_run
from axone.llm.training.optimizers import Optimizers
from axone.llm.training.ranks import data_parallel, environment, workers_of_rank
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
    communicator : Communicator, optional
        Of the ranks of the job, from `axone.llm.distributed.world`; by default this process alone. Callbacks are called
        in rank 0 alone, which also writes the run.

    Attributes
    ----------
    model, train_data, validation_data, config, callbacks, communicator
        As given.
    run : Run or None
    notes : dict
        As given, or as stored in the resumed run.

    Raises
    ------
    ValueError
        If a text is shorter than one sequence, if sequences or vocabulary exceed those of the model, or if the batch size
        is not divisible by the number of ranks.

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
        communicator: Communicator | None = None,
    ) -> None:
        self.communicator = SingleProcess() if communicator is None else communicator
        ranks = self.communicator.world_size
        require_float32(model)
        if config.batch_size % ranks:
            raise ValueError(f"batch_size ({config.batch_size}) must be divisible by the number of ranks ({ranks})")
        if config.context_length > model.config.context_length:
            raise ValueError(
                f"context_length ({config.context_length}) must be at most that of the model "
                f"({model.config.context_length})"
            )
        bundle = ModelBundle(model, train_data.tokenizer, chat_template_text)
        self._files: ModelFiles = bundle if adapter is None else AdapterFiles(adapter)
        self.adapter = adapter
        require_calibration(model, train_data, config)
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
        self._is_same_job = ranks == 1
        self._new_options: dict[str, Any] | None = None

    def __repr__(self) -> str:
        config, step = self.config, "" if self._resumed is None else f" from step {self._resumed.step}"
        return (
            f"Trainer({type(self.model).__name__} of {self.model.num_parameters():,} parameters, "
            f"{self.train_data.num_targets:,} tokens and {self.validation_data.num_targets:,} held out, "
            f"{config.steps:,} steps of {config.batch_size} x {config.context_length} tokens{step}, "
            f"{'no run' if self.run is None else self.run})"
        )

    @classmethod
    def resume(
        cls,
        run: str | os.PathLike[str],
        callbacks: Sequence[Callback] = (),
        *,
        steps: int | None = None,
        communicator: Communicator | None = None,
    ) -> Trainer:
        """Return a trainer that continues from a run's newest valid checkpoint.

        The number of ranks may differ from that of the training so far: the order of the data stays the same.

        Parameters
        ----------
        run : path
        callbacks : sequence of Callback
        steps : int, optional
            New number of steps of the whole training, stored by `fit`: see `TrainerConfig.with_steps`. The patience of
            early stopping counts from this checkpoint.
        communicator : Communicator, optional
            Of the ranks of the job; every rank must see the run's folder.

        Returns
        -------
        Trainer

        Raises
        ------
        CheckpointError
            If the folder does not hold a run, or its data is missing.
        ValueError
            If `steps` is not above the number of steps that the run has made.
        """
        opened = open_run(run, steps)
        try:
            trainer = cls(
                opened.bundle.model,
                opened.data["train"],
                opened.data["validation"],
                opened.config,
                callbacks,
                notes=opened.notes,
                adapter=opened.adapter,
                chat_template_text=opened.bundle.chat_template_text,
                communicator=communicator,
            )
        except ValueError as error:
            raise CheckpointError(opened.run.path / OPTIONS, str(error)) from error
        trainer.run, trainer._resumed, trainer._seen = opened.run, opened.checkpoint, opened.seen
        trainer._new_options = opened.new_options
        return trainer

    def estimate(self) -> Estimate:
        """Measure a few steps with a learning rate of 0, and predict the time and memory of the training.

        Returns
        -------
        Estimate
            Its memory is that of one rank.

        Raises
        ------
        NotEnoughMemoryError
            If the training needs more memory than is free.
        LaunchError
            If the ranks of the job differ.
        """
        self._require_same_job()
        first_step = 0 if self._resumed is None else self._resumed.step
        data = self.train_data, self.validation_data
        return estimate(self.model, *data, self.config, self.communicator, first_step=first_step)

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
        LaunchError
            If the ranks of the job differ in code, libraries, options, model or data.
        RankError
            In a job of several ranks: if another rank has failed, does not see the run's folder, or has other weights.
        Exception
            Any error of a callback, after the step has been saved.
        """
        self._require_same_job()
        if self.communicator.rank:
            run_together(self.communicator, lambda: None)  # rank 0 opens the run
            return self._train(self.run)
        with closing(list(self.callbacks)):
            return self._fit()

    @property
    def num_workers(self) -> int:
        """The number of threads or processes of each rank."""
        return workers_of_rank(self.config, self.communicator)[0]

    def _require_same_job(self) -> None:
        """Check once that all ranks of the job train the same."""
        if not self._is_same_job:
            data = {"training": self.train_data, "validation": self.validation_data}
            step = None if self._resumed is None else self._resumed.step
            options = {"configuration": asdict(self.config), "checkpoint": step}
            require_same_job(self.communicator, self.model, data, options)
            self._is_same_job = True

    def _fit(self) -> EndEvent:
        """Train with the run's folder locked, if there is one."""
        with contextlib.ExitStack() as held:
            with together(self.communicator):
                self._open_run(held)
            try:
                return self._train(self.run)
            except BaseException as error:
                if self.run is None:
                    raise
                if self._resumed is None:
                    self.run.discard_unsaved()
                advice = f"; resume {self.run.path} from its last checkpoint"
                if isinstance(error, ChildProcessError) and self.run.path.exists():
                    raise ChildProcessError(f"{error}{advice}") from error
                if isinstance(error, RankError) and self.run.path.exists():
                    raise RankError(error.rank, f"{error.reason}{advice}") from error
                raise

    def _open_run(self, held: contextlib.ExitStack) -> None:
        """Create the run's folder, or check that it is still the one that was resumed, and lock it."""
        if self.run is None:
            return
        if self._resumed is None:
            with self.run.created(overwrite=self._overwrite) as folder:
                self._write_options(self.run, folder)
        held.enter_context(self.run.lock())
        if self._resumed is not None and [checkpoint.path for checkpoint in self.run.checkpoints()] != self._seen:
            raise RunBusyError(
                f"{self.run.path} has been trained by another process since it was opened: resume it again"
            )
        self.run.clean()
        if self._new_options is not None:
            self.run.replace_options(self._new_options)

    def _train(self, run: Run | None) -> EndEvent:
        config, began = self.config, time.perf_counter()
        path = run.path if run else None
        with contextlib.ExitStack() as handlers:
            signals = handlers.enter_context(record_signals())
            with contextlib.ExitStack() as entered:
                with together(self.communicator):
                    workers = entered.enter_context(data_parallel(self.model, config, self.communicator))
                    steps = TrainingStep(workers, config, self.train_data, self.validation_data)
                    state = self._restore(steps.optimizers, workers.shard)
                    steps.start()
                if self.communicator.world_size > 1:
                    self.communicator.broadcast_array(workers.flat.data)
                    if run is not None:
                        require_shared_folder(self.communicator, run.path, OPTIONS)
                save = None if run is None else partial(self._save, run, steps)
                tokens = self.train_data.tokens_per_batch(config.batch_size, config.context_length)
                tokens *= config.gradient_accumulation_steps
                loop = TrainingLoop(
                    steps, self.validation_data, config, self.callbacks, signals, save, tokens_per_step=tokens
                )

                def lead() -> tuple[dict[str, Any], TrainingOutcome]:
                    for callback in self.callbacks:
                        callback.on_start(StartEvent(state.step, config.steps, tokens, path))
                    end, outcome = loop.run(state, saved=self._is_saved(state))
                    return asdict(end), outcome

                fields, outcome = workers.ranks.lead(steps, lead)
                state = TrainingState(**fields)
            self.model.eval()
            data, loss = self.validation_data, state.latest_loss
            end = EndEvent(
                outcome=outcome,
                step=state.step,
                validation_loss=loss,
                bits_per_byte=None if loss is None else bits_per_byte(loss, data.num_targets, data.num_bytes),
                best_loss=state.best_loss,
                temperature=state.temperature,
                seconds=time.perf_counter() - began,
                run=path,
            )
            if signals.number is None:  # after a signal, a second one must not interrupt on_end
                handlers.close()
            for callback in self.callbacks if self.communicator.rank == 0 else ():
                callback.on_end(end)
        return end

    def _restore(self, optimizers: Optimizers, shard: slice | None) -> TrainingState:
        """Load the optimizer's state of the checkpoint, if there is one, and return the training state."""
        if self._resumed is None:
            return TrainingState(step=0)
        state = self._resumed.training_state()
        try:
            if shard is None:
                optimizers.load_state_dict(self._resumed.optimizer_state())
            else:
                optimizers.read_state(self._resumed.optimizer_file())
        except ValueError as error:
            raise CheckpointError(self._resumed.path, f"does not fit its run ({error})") from error
        before, now = {"ranks": 1, **state.environment}, environment(self.config, self.communicator)
        changed = [f"{name} {before.get(name)} is now {now[name]}" for name in now if now[name] != before.get(name)]
        if changed and self.communicator.rank == 0:
            warn_caller(f"the run continues with other bits than an uninterrupted one: {'; '.join(changed)}")
        patience = {} if self._new_options is None else {"evaluations_since_best": 0}
        return replace(state, environment={}, **patience)

    def _is_saved(self, state: TrainingState) -> bool:
        """Return whether a checkpoint holds the state: not if its count for early stopping was set back."""
        counted = None if self._resumed is None else self._resumed.training_state().evaluations_since_best
        return state.evaluations_since_best == counted

    def _save(self, run: Run, steps: TrainingStep, state: TrainingState) -> Path:
        steps.compare_weights(state.step)
        state = replace(state, environment=environment(self.config, self.communicator))
        return steps.save_state(lambda arrays: run.save(self._files, state, arrays).path)

    def _write_options(self, run: Run, folder: Path) -> None:
        refs = store_datasets(folder, {"train": self.train_data, "validation": self.validation_data})
        data = {name: asdict(ref) for name, ref in refs.items()}
        run.write_options(folder, {**self.notes, "trainer": asdict(self.config), "data": data})
