"""Optimizers, gradient clipping and learning-rate schedules."""

from axone.autograd.optim.adam import Adam, AdamW
from axone.autograd.optim.clip import clip_grad_norm
from axone.autograd.optim.muon import Muon, split_matrices
from axone.autograd.optim.optimizer import Optimizer, ParallelMap, State
from axone.autograd.optim.schedule import cosine, linear_decay, trapezoid
from axone.autograd.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Muon",
    "Optimizer",
    "ParallelMap",
    "State",
    "clip_grad_norm",
    "cosine",
    "linear_decay",
    "split_matrices",
    "trapezoid",
]
