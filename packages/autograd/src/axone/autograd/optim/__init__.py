"""Optimizers, gradient clipping and learning-rate schedules."""

from axone.autograd.optim.adam import AdamW
from axone.autograd.optim.clip import clip_grad_norm
from axone.autograd.optim.optimizer import Optimizer, ParallelMap, State
from axone.autograd.optim.schedule import cosine, linear_decay

__all__ = ["AdamW", "Optimizer", "ParallelMap", "State", "clip_grad_norm", "cosine", "linear_decay"]
