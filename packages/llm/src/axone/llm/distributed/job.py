"""Checks before a job trains: all ranks have the same code, libraries, options, model, data, and folder of the run.

Bits differ between versions of NumPy, between BLAS kernels, and between processors. Then the ranks would choose different
gradient norms, and their weights would drift apart.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from axone.llm.config import LanguageModelConfig
from axone.llm.data.training_data import TrainingData
from axone.llm.errors import LaunchError, RankError
from axone.llm.runtime import resources
from axone.llm.runtime.communicator import Communicator, run_together, together
from axone.nn import Module

T = TypeVar("T")

_PACKAGES = "axone.autograd", "axone.nn", "axone.tokenizer", "axone.llm"
_VISIBLE_WITHIN = 10.0  # seconds: a network file system caches the entries of a folder


def in_turn(communicator: Communicator, function: Callable[[], T]) -> T:
    """Call a function in rank 0, then in all other ranks: what rank 0 writes, such as a cache, they find.

    Parameters
    ----------
    communicator : Communicator
    function : callable
        Must not communicate.

    Returns
    -------
    object
        The value of this rank's call.

    Raises
    ------
    BaseException
        The error of this rank.
    RankError
        The error of another rank.
    """
    found: list[T] = []
    for first in (True, False):
        with together(communicator):
            if first == (communicator.rank == 0):
                found.append(function())
    return found[0]


def workers_per_rank(communicator: Communicator) -> int:
    """Return the default number of workers of each rank: the cores of its machine, divided among its ranks.

    Ranks that their launcher has bound to different cores use these. The number is the same in all ranks: the smallest.

    Parameters
    ----------
    communicator : Communicator

    Returns
    -------
    int
    """
    bound = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    ranks = communicator.all_gather([socket.gethostname(), bound, resources.available_cores()])
    numbers: list[int] = []
    for host in {host for host, _, _ in ranks}:
        local = [(cores, available) for name, cores, available in ranks if name == host]
        union = {core for cores, _ in local for core in cores}
        limited = [available for cores, available in local if not cores or available < len(cores)]  # by a quota
        numbers.append(min([len(union), *limited] if union else limited) // len(local))
    return max(min(numbers), 1)


def require_same_job(
    communicator: Communicator, model: Module, data: Mapping[str, TrainingData], options: Mapping[str, Any]
) -> None:
    """Check that all ranks of a job train the same.

    Parameters
    ----------
    communicator : Communicator
    model : Module
        Its ``config`` is compared, the shapes of its trained parameters, and the values of those that are frozen.
    data : mapping of str to TrainingData
        By name, for the message.
    options : mapping of str to object
        Further values that must be equal, by name.

    Raises
    ------
    LaunchError
        If a rank differs from rank 0.
    """
    if communicator.world_size == 1:
        return
    facts = {
        "code of axone": _code_sum(),
        **{name: value for name, value in resources.environment().items() if name != "blas_threads"},
        **options,
        "model": _model_sum(model),
        **{f"{name} data": part.content_sum() for name, part in data.items()},
    }
    facts = {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True) for name, value in facts.items()
    }
    ranks: list[tuple[str, dict[str, str]]] = run_together(communicator, lambda: (socket.gethostname(), facts))
    first_host, expected = ranks[0]
    for rank, (host, found) in enumerate(ranks):
        for name, value in expected.items():
            if found[name] != value:
                shown = f" ({found[name]}, not {value})" if max(len(found[name]), len(value)) <= 60 else ""
                raise LaunchError(
                    f"{name} of rank {rank} on {host} differs from that of rank 0 on {first_host}{shown}: all ranks must have "
                    "the same"
                )


def require_shared_folder(communicator: Communicator, folder: Path, file: str) -> None:
    """Check that all ranks see a folder that rank 0 has made.

    Parameters
    ----------
    communicator : Communicator
    folder : Path
    file : str
        A file in the folder, whose content is compared.

    Raises
    ------
    RankError
        If a rank does not see it.
    """
    content = run_together(
        communicator, lambda: "" if communicator.rank else (folder / file).read_text(encoding="utf-8")
    )[0]

    def look() -> None:
        end = time.monotonic() + _VISIBLE_WITHIN
        while not _holds(folder / file, content):
            if time.monotonic() > end:
                raise RankError(
                    communicator.rank,
                    f"{socket.gethostname()} does not see {folder}, which rank 0 has made: name a folder of a file system "
                    "that all machines share",
                )
            time.sleep(0.05)

    run_together(communicator, look)


def _holds(path: Path, content: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == content
    except OSError:
        return False


def _code_sum() -> str:
    """Return a SHA-256 sum of the source of all packages."""
    total = hashlib.sha256()
    for name in _PACKAGES:
        folder = Path(str(import_module(name).__file__)).parent
        for path in sorted(folder.rglob("*.py")):
            total.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return total.hexdigest()


def _model_sum(model: Module) -> str:
    """Return a SHA-256 sum of a model's configuration, of the shapes of its parameters, and of those that are frozen."""
    config = getattr(model, "config", None)
    total = hashlib.sha256(json.dumps(asdict(config) if isinstance(config, LanguageModelConfig) else None).encode())
    for name, parameter in model.named_parameters():
        total.update(json.dumps([name, parameter.shape, parameter.requires_grad]).encode())
        if not parameter.requires_grad:
            total.update(np.ascontiguousarray(parameter.data).reshape(-1).view(np.uint8).data)
    return total.hexdigest()
