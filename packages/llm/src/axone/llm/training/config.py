"""TrainerConfig: options of a training, without model and data."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from axone.llm.data.sampler import SamplingMode
from axone.llm.runtime.resources import MAX_WORKERS, available_cores
from axone.llm.storage.field_types import require_field_types

_AT_LEAST_1 = (
    "steps", "batch_size", "context_length", "gradient_accumulation_steps", "eval_every",
    "eval_sequences", "save_every", "early_stopping_patience", "workers",
)  # fmt: skip
_FINITE = ("learning_rate", "min_learning_rate", "muon_learning_rate", "weight_decay", "max_grad_norm")
_NOT_NEGATIVE = ("learning_rate", "muon_learning_rate", "warmup_steps", "weight_decay", "seed")


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Options of a training.

    Parameters
    ----------
    steps : int
        Number of updates.
    batch_size : int
        B, sequences in each batch, over all replicas.
    context_length : int
        T, tokens in each sequence.
    optimizer : {"adamw", "muon", "sgd"}
        Muon updates the matrices of hidden layers and leaves the rest to AdamW; SGD has momentum.
    learning_rate : float
        Peak learning rate.
    min_learning_rate : float or None
        Final learning rate, by default a tenth of the peak.
    muon_learning_rate : float
        Peak learning rate of Muon's matrices; it follows the schedule in proportion.
    schedule : {"cosine", "linear", "trapezoid", "constant"}
        Learning rate after the warm-up: decay up to the last step, a constant rate with a cooldown at the end, or a
        constant rate.
    cooldown : float
        Fraction of the steps in which the rate of "trapezoid" falls linearly to the last, in (0, 1].
    average : float
        Fraction of the steps, at the end, whose weights are averaged, in [0, 1]: the mean replaces the last weights.
    calibration : float
        Fraction of the training data that is held back, in [0, 0.5]: at the end the temperature of the model is fitted to
        it. At least one sequence, and none of data that would be halved by that.
    warmup_steps : int or None
        Steps of linear warm-up, at most `steps`; by default 100, and a tenth of a training shorter than 1000 steps.
    weight_decay : float
        Decay of matrices and embeddings, with Muon of embeddings and the output layer alone; biases and gains have none.
    betas : tuple of float
        AdamW's decay rates.
    momentum : float
        Momentum of SGD and Muon.
    max_grad_norm : float or None
        Maximum norm of the gradient; None disables clipping.
    gradient_accumulation_steps : int
        Batches whose gradients are summed in each step.
    sampling : {"random", "epoch"}
        Random sequences of the text, or every sequence once per epoch.
    eval_every : int
        Steps between evaluations; a checkpoint follows each.
    eval_sequences : int or None
        Maximum number of sequences of an evaluation, evenly spread; the last evaluation takes all.
    save_every : int or None
        Steps between checkpoints besides those that follow evaluations.
    early_stopping_patience : int or None
        Number of evaluations without improvement after which training stops; None disables early stopping.
    workers : int or None
        Number of threads, or of processes where these are faster; by default one per core. See `num_replicas`.
    seed : int
        Seed of batches and dropout.
    shard_optimizer : bool
        Whether the ranks of a job share the optimizer's state: each has a shard of it, and updates that shard of the
        weights. A single rank has all of it.

    Raises
    ------
    TypeError
        If a field holds a value of another type.
    ValueError
        If a field is out of range, or two fields contradict each other.
    """

    steps: int
    batch_size: int
    context_length: int
    optimizer: Literal["adamw", "muon", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    min_learning_rate: float | None = None
    muon_learning_rate: float = 0.02
    schedule: Literal["cosine", "linear", "trapezoid", "constant"] = "cosine"
    cooldown: float = 0.4
    average: float = 0.0
    calibration: float = 0.0
    warmup_steps: int | None = None
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    momentum: float = 0.95
    max_grad_norm: float | None = 1.0
    gradient_accumulation_steps: int = 1
    sampling: SamplingMode = "random"
    eval_every: int = 250
    eval_sequences: int | None = 200
    save_every: int | None = None
    early_stopping_patience: int | None = None
    workers: int | None = None
    seed: int = 0
    shard_optimizer: bool = False

    def __post_init__(self) -> None:
        require_field_types(self)
        for field in _AT_LEAST_1:
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"{field} ({value}) must be at least 1")
        if self.workers is not None and self.workers > MAX_WORKERS:
            raise ValueError(f"workers ({self.workers}) must be at most {MAX_WORKERS}")
        for field in _FINITE:
            value = getattr(self, field)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{field} ({value}) must be finite")
        for field in _NOT_NEGATIVE:
            value = getattr(self, field)
            if value is not None and value < 0:
                raise ValueError(f"{field} ({value}) must not be negative")
        if not 0 < self.cooldown <= 1:
            raise ValueError(f"cooldown ({self.cooldown}) must be in (0, 1]")
        if not 0 <= self.average <= 1:
            raise ValueError(f"average ({self.average}) must be in [0, 1]")
        if not 0 <= self.calibration <= 0.5:
            raise ValueError(f"calibration ({self.calibration}) must be in [0, 0.5]")
        if self.warmup_steps is not None and self.warmup_steps > self.steps:
            raise ValueError(
                f"warmup_steps ({self.warmup_steps}) must be at most steps ({self.steps}): shorten the warm-up or lengthen "
                "the training"
            )
        if self.min_learning_rate is not None and not 0 <= self.min_learning_rate <= self.learning_rate:
            raise ValueError(
                f"min_learning_rate ({self.min_learning_rate}) must be between 0 and learning_rate ({self.learning_rate})"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas {self.betas} must be in [0, 1)")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum ({self.momentum}) must be in [0, 1)")
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm ({self.max_grad_norm}) must be positive")
        if self.optimizer == "muon" and not (self.learning_rate > 0 and self.muon_learning_rate > 0):
            raise ValueError(
                f"learning_rate ({self.learning_rate}) and muon_learning_rate ({self.muon_learning_rate}) must be positive "
                "for muon"
            )

    def with_steps(self, steps: int) -> TrainerConfig:
        """Return the configuration with another number of steps, and the same warm-up.

        The learning rate of each step becomes that of a training that was planned with this number: "trapezoid" extends
        its constant part; "cosine" and "linear" rise to the rate that the longer decay has at this step.

        Parameters
        ----------
        steps : int

        Returns
        -------
        TrainerConfig
        """
        return replace(self, steps=steps, warmup_steps=min(self.warmup, steps))

    @property
    def last_learning_rate(self) -> float:
        """Final learning rate: `min_learning_rate`, or its default."""
        return self.learning_rate / 10 if self.min_learning_rate is None else self.min_learning_rate

    @property
    def warmup(self) -> int:
        """Steps of warm-up: `warmup_steps`, or its default."""
        return min(100, self.steps // 10) if self.warmup_steps is None else self.warmup_steps

    @property
    def averaged_steps(self) -> int:
        """Number of steps at the end whose weights are averaged: at least one, if any are."""
        return max(1, round(self.average * self.steps)) if self.average else 0

    @property
    def num_workers(self) -> int:
        """Number of threads or processes: `workers`, or its default."""
        return self.workers or available_cores()

    @property
    def num_replicas(self) -> int:
        """Number of model replicas among which each batch is split.

        One per worker. A batch of fewer sequences than workers has a single replica, and the workers are the threads of
        its operations.
        """
        return self.num_workers if self.num_workers <= self.batch_size else 1

    @property
    def tokens_per_step(self) -> int:
        """Number of tokens of each step."""
        return self.batch_size * self.context_length * self.gradient_accumulation_steps
