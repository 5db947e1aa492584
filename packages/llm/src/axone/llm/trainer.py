"""The training loop: batches, gradients, updates, evaluations, checkpoints.

It knows neither model nor tokenizer: it needs a module from ids to logits, and hands both on to be saved. It prints
nothing: callbacks hear of every event. Batches and dropout masks are functions of (seed, step, worker, layer), so a run
that is resumed goes on bit for bit.

References
----------
.. [1] A. Karpathy, nanoGPT, https://github.com/karpathy/nanoGPT
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from axone.llm import platform
from axone.llm.callbacks import Callback, End, Evaluation, Saved, Start, Step
from axone.llm.checkpoint import Checkpoint, Progress
from axone.llm.data import TokenDataset
from axone.llm.errors import CheckpointError, RunExistsError, TrainingDivergedError
from axone.llm.estimate import Estimate, estimate
from axone.llm.files import write_json
from axone.llm.interrupt import Interrupt, deferred_interrupts
from axone.llm.loss import bits_per_byte
from axone.llm.model import LanguageModel
from axone.llm.pace import Pace
from axone.llm.parallel import Workers
from axone.llm.run import OPTIONS, Run
from axone.llm.run_data import DataPart, keep
from axone.llm.schema import from_json
from axone.llm.trainer_config import TrainerConfig
from axone.llm.training_step import TrainingStep


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

    Raises
    ------
    ValueError
        If a text is too short for one window, or the windows or tokens are not the model's.
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
        if train_data.tokenizer.vocab_size > model.config.vocab_size:
            raise ValueError(
                f"the model must know all {train_data.tokenizer.vocab_size} tokens of the tokenizer, and knows "
                f"{model.config.vocab_size}"
            )
        train_data.require(config.context_length)
        validation_data.require(config.context_length)
        self.model = model
        self.train_data = train_data
        self.validation_data = validation_data
        self.config = config
        self.callbacks = list(callbacks)
        self.run = None if run is None else Run(run)
        self._overwrite = overwrite
        self._notes = dict(notes or {})
        self._pace = Pace(config)
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
        model, tokenizer = checkpoint.model(), checkpoint.tokenizer()
        parts = options.get("data")
        if not isinstance(parts, dict) or set(parts) != {"train", "validation"}:
            raise CheckpointError(path, "must say which data to train and to validate on")
        train, validation = (
            from_json(DataPart, parts[name], path).open(place.path, tokenizer) for name in ("train", "validation")
        )
        config = from_json(TrainerConfig, options.get("trainer"), path)
        try:
            trainer = cls(model, train, validation, config, callbacks, run=run)
        except ValueError as error:
            raise CheckpointError(path, str(error)) from error
        trainer._resumed, trainer._seen = checkpoint, seen
        return trainer

    @property
    def workers(self) -> int:
        """How many threads train: one takes over where a batch has fewer windows than there would be threads."""
        return self.config.threads if self.config.threads <= self.config.batch_size else 1

    def estimate(self) -> Estimate:
        """Make some steps without changing the weights, and say what all of them will take.

        Raises
        ------
        NotEnoughMemoryError
            With the numbers, if memory will not do.
        """
        return estimate(self.model, self.train_data, self.validation_data, self.config, self.workers)

    def check_run(self) -> None:
        """Check that the run's folder may be made, before time is spent on an estimate.

        Raises
        ------
        RunExistsError
            If it exists and is neither to be resumed nor to be overwritten.
        """
        if self.run is not None and self._resumed is None:
            self.run.check_new(overwrite=self._overwrite)

    def fit(self) -> End:
        """Train, or go on training.

        Returns
        -------
        End
            How it ended. After SIGINT or SIGTERM the step has been finished and saved.

        Raises
        ------
        RunExistsError
            If the run's folder exists and is neither to be resumed nor to be overwritten, or is in use.
        TrainingDivergedError
            If a loss or gradient is not finite; the last good checkpoint stays.
        OSError
            If the run cannot be written; the last good checkpoint stays.
        """
        if self.run is None:
            return self._fit(None)
        if self._resumed is None:
            with self.run.created(overwrite=self._overwrite) as folder:
                self._write_options(folder)
        with self.run.lock():
            if self._resumed is not None and [checkpoint.path for checkpoint in self.run.checkpoints()] != self._seen:
                raise RunExistsError(f"{self.run.path} has been trained on since it was opened: resume it again")
            self.run.clean()
            return self._fit(self.run)

    def _fit(self, run: Run | None) -> End:
        config, began = self.config, time.perf_counter()
        tokens = config.batch_size * config.context_length * config.accumulation
        with Workers(self.model, self.workers, threads=config.threads) as workers, deferred_interrupts() as interrupt:
            step = TrainingStep(workers, config, self.train_data, self.validation_data)
            progress = self._restore(step)
            saved = None if self._resumed is None else progress
            self._tell("on_start", Start(progress.step, config.steps, tokens, run.path if run else None))
            while True:
                if self._pace.is_evaluation_due(progress):
                    progress = self._evaluate(step, progress, interrupt)
                stopping = interrupt.outcome is not None
                if progress != saved and (stopping or self._pace.is_save_due(progress)):
                    self._save(run, progress, step)
                    saved = progress
                if stopping or self._pace.is_complete(progress):
                    break
                progress = self._make_step(step, progress, tokens)
        self.model.eval()
        end = End(
            outcome=self._pace.outcome(progress, interrupt.outcome),
            step=progress.step,
            validation_loss=progress.latest_loss,
            bits_per_byte=None if progress.latest_loss is None else self._bits_per_byte(progress.latest_loss),
            best_loss=progress.best_loss,
            seconds=time.perf_counter() - began,
            run=run.path if run else None,
        )
        self._tell("on_end", end)
        return end

    def _make_step(self, step: TrainingStep, progress: Progress, tokens: int) -> Progress:
        """Make one step and tell of it."""
        before = time.perf_counter()
        loss, norm = step.gradients(progress.step)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDivergedError(
                f"training needs finite numbers, and at step {progress.step + 1} the loss is {loss} and the gradient's "
                f"norm {norm}: lower the learning rate"
            )
        rate = step.update(progress.step)
        seconds = time.perf_counter() - before
        progress = replace(progress, step=progress.step + 1, validation_loss=None, full_loss=None)
        self._tell("on_step", Step(progress.step, loss, rate, norm, seconds, tokens / seconds))
        return progress

    def _evaluate(self, step: TrainingStep, progress: Progress, interrupt: Interrupt) -> Progress:
        """Measure the held-out text, all of it if training is complete then; leave it if a signal comes."""
        every = self.validation_data.window_starts(self.config.context_length)
        some = self.validation_data.window_starts(self.config.context_length, self.config.eval_windows)

        def stop() -> bool:
            return interrupt.outcome is not None

        if progress.validation_loss is None:
            sums = step.evaluate(some, stop)
            if sums is None:
                return progress
            progress = progress.measured(self._finite(sums[0] / sums[1], progress))
        loss = progress.validation_loss
        if self._pace.is_finished(progress) and loss is not None:
            # Those measured already and the rest: the full loss, and one that compares with those on the way.
            rest = step.evaluate(np.setdiff1d(every, some), stop)
            if rest is None:
                return progress
            tokens = len(some) * self.config.context_length
            loss = self._finite((loss * tokens + rest[0]) / (tokens + rest[1]), progress)
            progress = replace(progress, full_loss=loss)
        if loss is not None:
            progress = replace(progress, latest_loss=loss)
            self._tell("on_evaluation", Evaluation(progress.step, loss, self._bits_per_byte(loss)))
        return progress

    def _finite(self, loss: float, progress: Progress) -> float:
        if not math.isfinite(loss):
            raise TrainingDivergedError(
                f"training needs finite numbers, and after step {progress.step} the loss on held-out text is {loss}: "
                "lower the learning rate"
            )
        return loss

    def _bits_per_byte(self, loss: float) -> float:
        return bits_per_byte(loss, len(self.validation_data), self.validation_data.num_bytes)

    def _tell(self, event: str, content: object) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(content)

    def _write_options(self, folder: Path) -> None:
        data = {
            name: asdict(keep(folder, dataset, name))
            for name, dataset in (("train", self.train_data), ("validation", self.validation_data))
        }
        write_json(folder / OPTIONS, {"trainer": asdict(self.config), "data": data, **self._notes})

    def _save(self, run: Run | None, progress: Progress, step: TrainingStep) -> None:
        if run is None:
            return
        if not step.is_finite():
            raise TrainingDivergedError(
                f"training needs finite numbers, and after step {progress.step} a weight is not: lower the learning rate"
            )
        progress = replace(progress, environment=self._environment())
        state = step.optimizers.state_dict()
        checkpoint = run.save(self.model, self.train_data.tokenizer, progress, state)
        self._tell("on_checkpoint", Saved(progress.step, checkpoint.path))

    def _environment(self) -> dict[str, Any]:
        return {**platform.environment(), "workers": self.workers}

    def _restore(self, step: TrainingStep) -> Progress:
        """Load what was saved, if anything, and return how far training had come."""
        if self._resumed is None:
            return Progress(step=0)
        progress = self._resumed.progress()
        try:
            step.optimizers.load_state_dict(self._resumed.moments())
        except ValueError as error:
            raise CheckpointError(self._resumed.path, f"does not fit its run ({error})") from error
        before, now = progress.environment, self._environment()
        changed = [f"{name} {before.get(name)} is now {now[name]}" for name in now if now[name] != before.get(name)]
        if changed:
            warnings.warn(
                f"the run goes on, but not with the same bits as if it had not stopped: {'; '.join(changed)}",
                stacklevel=4,
            )
        return replace(progress, environment={})
