"""Errors of axone.llm: every error that its user can mend derives from `AxoneError`.

Arguments out of range are ValueError or TypeError, and refused writes are OSError, as everywhere in Python.
"""

import sys
import warnings
from os import PathLike

_INTERNAL = ("axone.", "contextlib")


class AxoneError(Exception):
    """Base class of the errors of axone.llm."""


class CheckpointError(AxoneError):
    """A path holds no model, run or checkpoint, or a damaged one.

    Parameters
    ----------
    path : path
        Folder or file.
    reason : str
        Fault of the path, as the rest of the sentence that begins with it.
    """

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class RunExistsError(AxoneError):
    """The folder of a new run exists already."""


class RunBusyError(AxoneError):
    """Another process trains in the run, or has trained in it since it was opened."""


class TrainingDivergedError(AxoneError):
    """A loss, gradient or weight is not finite; the last checkpoint is still the last finite one."""


class NotEnoughMemoryError(AxoneError):
    """A training needs more memory than the machine has free."""


class ChatTemplateError(AxoneError):
    """A chat template is not valid, or cannot render a conversation."""


class DataError(AxoneError, ValueError):
    """A file of training data has a fault; the message names its line."""


class MissingDependencyError(AxoneError, ImportError):
    """An optional library is needed and not installed.

    Parameters
    ----------
    purpose, library : str
        What needs it, and its name on the index.
    *requirements : str
        Arguments of pip, such as ``"axone-llm[chat]"``.
    """

    def __init__(self, purpose: str, library: str, *requirements: str) -> None:
        install = " ".join(f'"{each}"' if "[" in each else each for each in requirements)  # [] are a pattern in shells
        super().__init__(f"{purpose} need {library}, which is not installed: pip install {install}")


class DownloadError(AxoneError):
    """A model cannot be downloaded."""


class WorkerError(AxoneError):
    """The system refuses to start the threads of a training or a generation."""


class LaunchError(AxoneError):
    """The ranks of a job cannot work together."""


class RankError(AxoneError):
    """Another rank of the job has failed, or differs from this one.

    Parameters
    ----------
    rank : int
        Rank that has failed.
    reason : str
        Fault of the rank.
    """

    def __init__(self, rank: int, reason: str) -> None:
        super().__init__(f"rank {rank}: {reason}")
        self.rank = rank
        self.reason = reason


def warn_caller(message: str) -> None:
    """Issue a UserWarning that points to the caller's line: the first frame outside of Axone."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(_INTERNAL):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)
