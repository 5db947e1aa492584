"""What can go wrong with what a user gives to this package."""

from os import PathLike


class CheckpointError(Exception):
    """A folder or file that is no model, run or checkpoint, or a damaged one.

    Parameters
    ----------
    path : path
        The folder or file.
    reason : str
        What is wrong with it.
    """

    def __init__(self, path: str | PathLike[str], reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class RunExistsError(Exception):
    """A run's folder that is there already, and was not to be resumed or overwritten."""


class TrainingDivergedError(Exception):
    """A loss or gradient that is not finite; nothing was saved over the last good checkpoint."""


class NotEnoughMemoryError(Exception):
    """A training that would need more memory than there is."""
