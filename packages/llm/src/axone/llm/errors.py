"""Errors of axone.llm: every error that its user can mend derives from `AxoneError`.

Arguments out of range are ValueError or TypeError, and refused writes are OSError, as everywhere in Python.
"""

from os import PathLike


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


class MissingDependencyError(AxoneError):
    """An optional library is needed and not installed.

    Parameters
    ----------
    purpose, library : str
        What needs it, and its name on the index.
    requirement : str
        What to install, such as ``"axone-llm[chat]"``.
    """

    def __init__(self, purpose: str, library: str, requirement: str) -> None:
        super().__init__(f'{purpose} need {library}, which is not installed: pip install "{requirement}"')
