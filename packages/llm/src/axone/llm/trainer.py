"""The training loop: batches, gradients, updates, evaluations, checkpoints.

It knows neither model nor tokenizer: it needs a module from ids to logits, and hands both on to be saved. It prints
nothing: callbacks hear of every event. Batches and dropout masks are functions of (seed, step, worker, layer), so a run
that is resumed goes on bit for bit.

References
----------
.. [1] A. Karpathy, nanoGPT, https://github.com/karpathy/nanoGPT
"""

from __future__ import annotations

import itertools
import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from axone.autograd import Tensor
from axone.autograd.optim import AdamW, cosine
from axone.llm import platform
from axone.llm.callbacks import Callback, End, Evaluation, Outcome, Saved, Start, Step
from axone.llm.data import Batch, TokenDataset
from axone.llm.errors import CheckpointError, TrainingDivergedError
from axone.llm.interrupt import deferred_interrupts
from axone.llm.loss import bits_per_byte, cross_entropy
from axone.llm.model import LanguageModel
from axone.llm.parallel import Workers
from axone.llm.run import Checkpoint, Run, checkpoint_tokenizer
from axone.nn import reseed_dropout


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How to train.

    Parameters
    ----------
    steps : int
        How many updates to make.
    batch_size : int
        B, windows in each step, over all workers.
    context_length : int
        T, tokens in each window.
    learning_rate, min_learning_rate : float
        The highest and the last.
    warmup_steps : int
        Over how many steps the rate rises.
    weight_decay : float
        On matrices and embeddings, not on biases and gains.
    betas : tuple of float
        AdamW's decay rates.
    clip : float or None
        The largest norm of the gradient.
    accumulation : int
        Batches whose gradients are added up in each step.
    eval_every : int
        Steps between evaluations; each is followed by a checkpoint.
    eval_windows : int or None
        The most windows in an evaluation on the way, evenly spread; the last takes all.
    workers : int or None
        Threads; by default one for each core, and never more than windows in a batch.
    seed : int
        What batches and dropout depend on.

    Raises
    ------
    ValueError
        If a field is out of its range.
    """

    steps: int
    batch_size: int
    context_length: int
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-4
    warmup_steps: int = 100
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float | None = 1.0
    accumulation: int = 1
    eval_every: int = 250
    eval_windows: int | None = 200
    workers: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one = ("steps", "batch_size", "context_length", "accumulation", "eval_every")
        for field in at_least_one:
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, and is {getattr(self, field)}")
        for field in ("eval_windows", "workers"):
            if getattr(self, field) is not None and getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, and is {getattr(self, field)}")
        for field in ("learning_rate", "min_learning_rate", "warmup_steps", "weight_decay", "seed"):
            if not getattr(self, field) >= 0:
                raise ValueError(f"{field} must not be negative, and is {getattr(self, field)}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be positive, and is {self.clip}")


@dataclass(frozen=True)
class Estimate:
    """What a training will take, from a few steps that were made and not applied.

    Attributes
    ----------
    seconds : float
        For all steps and evaluations that are left.
    memory : int or None
        The most that the process holds, in bytes; None where the platform does not tell.
    """

    seconds: float
    memory: int | None


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
        If a text is too short for one window.
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
        self._resumed: Checkpoint | None = None
        self._validation_bytes: int | None = None

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
        options = place.options()
        checkpoint = place.latest()
        tokenizer = checkpoint_tokenizer(checkpoint)
        try:
            config = TrainerConfig(**{**options["trainer"], "betas": tuple(options["trainer"]["betas"])})
            train, validation = (
                TokenDataset.open(place.path / part["path"], tokenizer).part(part["start"], part["stop"])
                for part in (options["data"]["train"], options["data"]["validation"])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(place.path / "run.json", f"is not a run's ({error})") from error
        trainer = cls(LanguageModel.from_pretrained(checkpoint.path), train, validation, config, callbacks, run=run)
        trainer._resumed = checkpoint
        return trainer

    @property
    def workers(self) -> int:
        """How many threads train: one takes over where a batch has fewer windows than there would be threads."""
        wanted = self.config.workers or platform.available_cores()
        return wanted if wanted <= self.config.batch_size else 1

    def estimate(self, steps: int = 8) -> Estimate:
        """Make some steps without applying them, and say what those that are left will take.

        Parameters
        ----------
        steps : int, default 8
            How many, after three that warm up.
        """
        config = self.config
        left = config.steps - (self._resumed.step if self._resumed else 0)
        evaluations = math.ceil(left / config.eval_every)
        with Workers(self.model, self.workers) as workers:
            times = []
            for step in range(steps + 3):
                before = time.perf_counter()
                self._gradients(workers, step)
                workers.clip(None)
                times.append(time.perf_counter() - before)
            before = time.perf_counter()
            batches = self._evaluation_batches(limit=4 * config.batch_size * self.workers)
            self._evaluate(workers, batches)
            window = (time.perf_counter() - before) / sum(len(inputs) for inputs, _ in batches)
        every = (len(self.validation_data) - 1) // config.context_length
        windows = evaluations * min(config.eval_windows or every, every) + every
        seconds = left * statistics.median(times[3:]) + windows * window
        memory = platform.peak_memory()
        moments = 2 * sum(parameter.data.nbytes for parameter in self.model.parameters())
        return Estimate(seconds, None if memory is None else memory + moments)

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
            self.run.create(overwrite=self._overwrite)
            self._write_options(self.run)
        with self.run.locked():
            return self._fit(self.run)

    def _fit(self, run: Run | None) -> End:
        config, began = self.config, time.perf_counter()
        evaluation: Evaluation | None = None
        outcome: Outcome = "finished"
        with Workers(self.model, self.workers) as workers, deferred_interrupts() as interrupt:
            optimizer = self._optimizer(workers)
            step = first = self._restore(optimizer)
            tokens = config.batch_size * config.context_length * config.accumulation
            self._tell("on_start", Start(step, config.steps, tokens, run.path if run else None))
            while step < config.steps:
                before = time.perf_counter()
                loss = self._gradients(workers, step)
                norm = workers.clip(config.clip)
                if not (math.isfinite(loss) and math.isfinite(norm)):
                    raise TrainingDivergedError(
                        f"training needs finite numbers, and at step {step + 1} the loss is {loss} and the gradient's "
                        f"norm {norm}: lower the learning rate"
                    )
                optimizer.lr = rate = self._learning_rate(step)
                optimizer.step(parallel=workers.map)
                step += 1
                seconds = time.perf_counter() - before
                self._tell("on_step", Step(step, loss, rate, norm, seconds, tokens / seconds))
                last = step == config.steps
                if interrupt.outcome is not None and not last:
                    outcome = interrupt.outcome
                    self._save(run, step, optimizer, None)
                    break
                if last or step % config.eval_every == 0:
                    limit = None if last else config.eval_windows
                    loss = self._evaluate(workers, self._evaluation_batches(limit))
                    evaluation = Evaluation(step, loss, self._bits_per_byte(loss))
                    self._tell("on_evaluation", evaluation)
                    self._save(run, step, optimizer, loss)
            if step == first == config.steps:  # resumed after its end: nothing to do but to measure
                loss = self._evaluate(workers, self._evaluation_batches(None))
                evaluation = Evaluation(step, loss, self._bits_per_byte(loss))
        self.model.eval()
        end = End(
            outcome,
            step,
            evaluation.loss if evaluation else None,
            evaluation.bits_per_byte if evaluation else None,
            time.perf_counter() - began,
            run.path if run else None,
        )
        self._tell("on_end", end)
        return end

    def _gradients(self, workers: Workers[LanguageModel], step: int) -> float:
        """Leave the gradient of a step in the workers' flat buffer, and return the loss."""
        config = self.config
        size, count = config.batch_size, workers.count
        cuts = [size * i // count for i in range(count + 1)]
        batches = [
            self.train_data.batch((config.seed, step, i), size, config.context_length)
            for i in range(config.accumulation)
        ]
        shares = [[(x[a:b], y[a:b]) for x, y in batches] for a, b in itertools.pairwise(cuts)]
        weights = [(b - a) / (size * config.accumulation) for a, b in itertools.pairwise(cuts)]

        def prepare(replica: LanguageModel, worker: int, turn: int) -> None:
            replica.train()
            reseed_dropout(replica, (config.seed, step, worker, turn))

        def loss(replica: LanguageModel, batch: Batch) -> Tensor:
            inputs, targets = batch
            return cross_entropy(replica(inputs), targets)

        return workers.gradients(shares, prepare, loss, weights)

    def _evaluate(self, workers: Workers[LanguageModel], batches: Sequence[Batch]) -> float:
        """Return the mean loss over batches, in nats a token."""

        def loss(replica: LanguageModel, batch: Batch) -> tuple[float, int]:
            inputs, targets = batch
            return cross_entropy(replica.eval()(inputs), targets).item() * targets.size, targets.size

        return workers.mean_loss(batches, loss)

    def _evaluation_batches(self, limit: int | None) -> list[Batch]:
        config = self.config
        size = max(config.batch_size // self.workers, 1)
        return list(self.validation_data.whole_windows(size, config.context_length, limit))

    def _learning_rate(self, step: int) -> float:
        config = self.config
        return cosine(
            step,
            max_lr=config.learning_rate,
            min_lr=config.min_learning_rate,
            warmup_steps=min(config.warmup_steps, config.steps),
            total_steps=config.steps,
        )

    def _optimizer(self, workers: Workers[LanguageModel]) -> AdamW:
        flat, config = workers.flat, self.config
        groups = [
            {"params": [flat.matrices], "weight_decay": config.weight_decay},
            {"params": [flat.vectors], "weight_decay": 0.0},
        ]
        return AdamW(groups, lr=config.learning_rate, betas=config.betas)

    def _bits_per_byte(self, loss: float) -> float:
        if self._validation_bytes is None:
            self._validation_bytes = self.validation_data.num_bytes
        return bits_per_byte(loss, len(self.validation_data), self._validation_bytes)

    def _tell(self, event: str, content: object) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(content)

    def _write_options(self, run: Run) -> None:
        data = {}
        for name, part in (("train", self.train_data), ("validation", self.validation_data)):
            if part.path is None:
                path = run.path / "data" / f"{name}.bin"
                path.parent.mkdir(exist_ok=True)
                part.write(path)
                data[name] = {"path": os.path.relpath(path, run.path), "start": 0, "stop": len(part)}
            else:
                data[name] = {
                    "path": str(part.path.absolute()),
                    "start": part.start,
                    "stop": part.start + len(part),
                }
        run.write_options({"trainer": asdict(self.config), "data": data, **self._notes})

    def _save(self, run: Run | None, step: int, optimizer: AdamW, loss: float | None) -> None:
        if run is None:
            return
        numbers = {
            "step": step,
            "validation_loss": loss,
            "workers": self.workers,
            "environment": platform.environment(),
        }
        checkpoint = run.save(step, self.model, self.train_data.tokenizer, numbers, optimizer.state_dict())
        self._tell("on_checkpoint", Saved(step, checkpoint.path))

    def _restore(self, optimizer: AdamW) -> int:
        """Load what was saved, if anything, and return the steps made."""
        if self._resumed is None:
            return 0
        numbers, arrays = self._resumed.training_state()
        try:
            optimizer.load_state_dict(arrays)
            return int(numbers["step"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(self._resumed.path, f"does not fit its run ({error})") from error
