"""TrainerConfig: how to train, apart from model and data."""

import math
from dataclasses import dataclass
from typing import Literal

from axone.llm.data.sampler import Order
from axone.llm.runtime.resources import available_cores
from axone.llm.storage.json_schema import require_numbers

_WHOLE = ("steps", "batch_size", "context_length", "accumulation", "eval_every")
_WHOLE_OR_NONE = ("eval_windows", "save_every", "patience", "workers")
_REAL = ("learning_rate", "min_learning_rate", "muon_learning_rate", "weight_decay", "momentum", "clip")
_NOT_NEGATIVE = ("learning_rate", "muon_learning_rate", "warmup_steps", "weight_decay", "seed")


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How to train.

    Parameters
    ----------
    steps : int
        How many updates to make.
    batch_size : int
        B, windows in each batch, over all workers.
    context_length : int
        T, tokens in each window.
    optimizer : {"adamw", "muon", "sgd"}
        Muon takes the matrices of hidden layers and leaves the rest to AdamW; SGD has momentum.
    learning_rate : float
        The highest.
    min_learning_rate : float or None
        The last; by default a tenth of the highest.
    muon_learning_rate : float
        The highest for Muon's matrices; it follows the schedule in proportion.
    schedule : {"cosine", "linear", "constant"}
        How the learning rate falls after the warm-up.
    warmup_steps : int or None
        Over how many steps the rate rises, at most all; by default 100, and of a short training a tenth.
    weight_decay : float
        On matrices and embeddings, not on biases and gains.
    betas : tuple of float
        AdamW's decay rates.
    momentum : float
        Of SGD and Muon.
    clip : float or None
        The largest norm of the gradient.
    accumulation : int
        Batches whose gradients are added up in each step.
    order : {"random", "epoch"}
        Windows from anywhere in the text, or every window once before any comes again.
    eval_every : int
        Steps between evaluations; each is followed by a checkpoint.
    eval_windows : int or None
        The most windows in an evaluation on the way, evenly spread; the last takes all.
    save_every : int or None
        Steps between checkpoints besides those that follow evaluations.
    patience : int or None
        Stop after this many evaluations without a lower loss.
    workers : int or None
        Threads, or processes where that is faster, which share out the windows of a batch. By default one for each core;
        where a batch has fewer windows, there is one worker, and the other threads help it.
    seed : int
        What batches and dropout depend on.

    Raises
    ------
    ValueError
        If a field is out of its range.
    TypeError
        If a field that holds a number is given something else.
    """

    steps: int
    batch_size: int
    context_length: int
    optimizer: Literal["adamw", "muon", "sgd"] = "adamw"
    learning_rate: float = 1e-3
    min_learning_rate: float | None = None
    muon_learning_rate: float = 0.02
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_steps: int | None = None
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)
    momentum: float = 0.95
    clip: float | None = 1.0
    accumulation: int = 1
    order: Order = "random"
    eval_every: int = 250
    eval_windows: int | None = 200
    save_every: int | None = None
    patience: int | None = None
    workers: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        require_numbers(self, (*_WHOLE, *_WHOLE_OR_NONE, "warmup_steps", "seed"), _REAL)
        for field in _WHOLE + _WHOLE_OR_NONE:
            value = getattr(self, field)
            if not (value is None and field in _WHOLE_OR_NONE) and value < 1:
                raise ValueError(f"{field} must be at least 1, and is {value}")
        for field in _REAL:
            value = getattr(self, field)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{field} must be finite, and is {value}")
        for field in _NOT_NEGATIVE:
            value = getattr(self, field)
            if not (value is None and field == "warmup_steps") and value < 0:
                raise ValueError(f"{field} must not be negative, and is {value}")
        if self.warmup_steps is not None and self.warmup_steps > self.steps:
            raise ValueError(
                f"warmup_steps must be no more than steps, which are {self.steps}, and is {self.warmup_steps}: make the "
                f"warm-up shorter or the training longer"
            )
        if self.min_learning_rate is not None and not 0 <= self.min_learning_rate <= self.learning_rate:
            raise ValueError(
                f"min_learning_rate must be from 0 to learning_rate, which is {self.learning_rate}, and is "
                f"{self.min_learning_rate}"
            )
        for field, value in (("betas", self.betas[0]), ("betas", self.betas[1]), ("momentum", self.momentum)):
            if not 0 <= value < 1:
                raise ValueError(f"{field} must be in [0, 1), and is {getattr(self, field)}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be positive, and is {self.clip}")
        if self.optimizer == "muon" and not (self.learning_rate > 0 and self.muon_learning_rate > 0):
            raise ValueError(
                f"learning_rate and muon_learning_rate must be positive for muon, and are {self.learning_rate} and "
                f"{self.muon_learning_rate}"
            )
        choices = {
            "optimizer": ("adamw", "muon", "sgd"),
            "schedule": ("cosine", "linear", "constant"),
            "order": ("random", "epoch"),
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field} must be one of {', '.join(allowed)}, and is {getattr(self, field)!r}")

    @property
    def last_learning_rate(self) -> float:
        """The learning rate of the last step, also where `min_learning_rate` is left out."""
        return self.learning_rate / 10 if self.min_learning_rate is None else self.min_learning_rate

    @property
    def warmup(self) -> int:
        """Over how many steps the rate rises, also where `warmup_steps` is left out."""
        return min(100, self.steps // 10) if self.warmup_steps is None else self.warmup_steps

    @property
    def threads(self) -> int:
        """How many threads train, also where `workers` is left out."""
        return self.workers or available_cores()

    @property
    def replicas(self) -> int:
        """How many share out a batch: one, helped by the other threads, where it has fewer windows than there are threads."""
        return self.threads if self.threads <= self.batch_size else 1

    @property
    def tokens_per_step(self) -> int:
        """How many tokens each step learns from."""
        return self.batch_size * self.context_length * self.accumulation
