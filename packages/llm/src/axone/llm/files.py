"""Files that are there whole or not at all: written beside, synced to the disk, and renamed into place.

The order is what makes it durable: the bytes, then ``fsync`` of the file, then the rename, then ``fsync`` of the folder
that holds the name.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from axone.llm.errors import CheckpointError


def write_file(path: Path, data: bytes) -> None:
    """Replace a file's content, durably; at every moment the old or the new one is there.

    Raises
    ------
    OSError
        If it cannot be written; the old one stays.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file, durably and legibly."""
    write_file(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give out a temporary folder to fill, and put it in place when the block ends well.

    Raises
    ------
    OSError
        If it cannot be written, or `path` is there already; nothing is left behind.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    if beside.exists():
        shutil.rmtree(beside)
    beside.mkdir(parents=True)
    try:
        yield beside
        sync_folder(beside)
        beside.rename(path)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable, where the platform can."""
    if os.name == "nt":  # Windows opens no folders and writes names through
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    CheckpointError
        If it is not there or not one.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(path, f"is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(path, "must hold a JSON object")
    return content
