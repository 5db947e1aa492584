"""Folder of a new run, which must not exist."""

from pathlib import Path


def unused_run(name: str) -> Path:
    """Return a path for a new run: ``runs/NAME``, with a number if that exists.

    Parameters
    ----------
    name : str

    Returns
    -------
    Path
        Of a folder that does not exist.
    """
    path = Path("runs") / name
    number = 2
    while path.exists():
        path = Path("runs") / f"{name}-{number}"
        number += 1
    return path
