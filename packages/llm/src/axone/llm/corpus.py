"""Where training text comes from: the user's files, or the source of Python's standard library on this machine."""

from __future__ import annotations

import sysconfig
from os import PathLike
from pathlib import Path


def python_source() -> str:
    """Return the modules of Python's standard library, one after the other: a few megabytes of ASCII.

    It is the same text on every machine with the same Python: the files directly in the library's folder, sorted by
    name, without those that hold other than ASCII. Packages, and with them the tests, are left out.

    Returns
    -------
    str
    """
    folder = Path(sysconfig.get_path("stdlib"))
    files = sorted(folder.glob("*.py"))
    sources = (file.read_bytes() for file in files if not file.name.startswith("_sysconfigdata"))
    return "\n".join(source.decode().replace("\r\n", "\n") for source in sources if source.isascii())


def read_text(path: str | PathLike[str]) -> str:
    """Return the text of a file, or of all text files in a folder and those below it, sorted by path.

    Files in a folder that are not UTF-8, are empty or hidden are passed over.

    Parameters
    ----------
    path : path

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If there is no text: no such path, an empty file, one that is not UTF-8, a folder without text.
    """
    path = Path(path)
    if path.is_dir():
        texts = [text for file in _visible_files(path) if (text := _text_or_none(file))]
        if not texts:
            raise ValueError(f"the folder must hold text files in UTF-8, and {path} holds none")
        return "\n".join(texts)
    if not path.exists():
        raise ValueError(f"the data must be a file or a folder, and {path} is not there")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the text must be UTF-8, and {path} is not at byte {error.start}: convert it first"
        ) from error
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read: {error.strerror}") from error
    if not text:
        raise ValueError(f"the file must hold text, and {path} is empty")
    return text


def _visible_files(folder: Path) -> list[Path]:
    found = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _text_or_none(file: Path) -> str | None:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return None if "\0" in text else text
