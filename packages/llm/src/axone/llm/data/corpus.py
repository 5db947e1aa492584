"""Corpora: the texts of the user's files, or of Python's standard library on this machine."""

from __future__ import annotations

import codecs
import os
import sysconfig
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import NoReturn

_PART = 1 << 24  # characters: a longer file is yielded in parts, so that it need not fit into memory


class TextFiles:
    """Texts of a file, or of all text files in a folder and those below it, sorted by path.

    Each iteration reads the files again, so that they are never in memory together. A file of more than 16 million
    characters is yielded in parts that end at a line end: joined with line feeds, the texts are the whole. A byte order
    mark at the start is not part of the text. A file with a NUL byte is not text, whatever its name. Inside a folder,
    files that are not UTF-8 text, are empty or hidden are skipped.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    files : list of Path
        The text files, in order.
    skipped : dict of Path to str
        The files that are not hidden and not text, with the reason of each.

    Raises
    ------
    ValueError
        If there is no text: no such path, an empty file, one that is not UTF-8 or has a NUL byte, a folder without text.
        If a file or folder that is not hidden cannot be read.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        path = Path(path)
        self.skipped: dict[Path, str] = {}
        if path.is_dir():
            faults = {file: _fault(file) for file in _visible_files(path)}
            self.files = [file for file, fault in faults.items() if fault is None]
            self.skipped = {file: fault for file, fault in faults.items() if fault is not None}
            if not self.files:
                raise ValueError(f"{path} has no text files in UTF-8: name a folder that has some, or a file")
            return
        if not path.exists():
            raise ValueError(f"{path} does not exist: name a text file or a folder of text files")
        if not path.is_file():
            raise ValueError(f"{path} is not a regular file, and can be read only once: save it to a file first")
        self.files = [path]
        if not any(_read(path)):
            raise ValueError(f"{path} is empty: name a file with text")

    def __repr__(self) -> str:
        return f"TextFiles({len(self.files):,} files, {len(self.skipped):,} skipped)"

    def __iter__(self) -> Iterator[str]:
        for file in self.files:
            yield from _parts(file)

    @property
    def num_bytes(self) -> int:
        """The size of all files, in bytes."""
        return sum(file.stat().st_size for file in self.files)


def read_text(path: str | PathLike[str]) -> str:
    """Read the text of a file, or of all text files in a folder, joined with line feeds.

    Parameters
    ----------
    path : path
        As for `TextFiles`.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        As `TextFiles`.
    """
    return "\n".join(TextFiles(path))


def python_source() -> str:
    """Read the modules of Python's standard library: a few megabytes of ASCII.

    The text is the same on every machine with the same Python: the files directly in the library's folder, sorted by
    name, without those that have other characters than ASCII. Packages, and with them the tests, are left out.

    Returns
    -------
    str
    """
    folder = Path(sysconfig.get_path("stdlib"))
    files = sorted(folder.glob("*.py"))
    sources = (file.read_bytes() for file in files if not file.name.startswith("_sysconfigdata"))
    return "\n".join(source.decode().replace("\r\n", "\n") for source in sources if source.isascii())


def _read(file: Path) -> Iterator[str]:
    r"""Yield the text of a file in pieces, its lines ending in ``\n``, without a byte order mark."""
    try:
        with file.open(encoding="utf-8-sig") as stream:
            while piece := stream.read(_PART):
                if "\0" in piece:
                    raise _NotTextError(
                        file, "has a NUL byte, as UTF-16 and binary data have", "convert it to UTF-8 first"
                    )
                yield piece
    except UnicodeDecodeError:
        fault = f"is not valid UTF-8 (first bad byte at {_first_bad_byte(file)})"
        raise _NotTextError(file, fault, "convert it first") from None
    except OSError as error:
        _refuse(error)


def _first_bad_byte(file: Path) -> int:
    """Return the position of the first byte that is not valid UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    before = 0
    with file.open("rb") as stream:
        while True:
            piece = stream.read(_PART)
            pending = len(decoder.getstate()[0])
            try:
                decoder.decode(piece, final=not piece)
            except UnicodeDecodeError as error:
                return before - pending + error.start
            before += len(piece)


def _parts(file: Path) -> Iterator[str]:
    """Yield the text of a file in parts, which line feeds join to the whole."""
    rest = ""
    for piece in _read(file):
        before, line_end, after = piece.rpartition("\n")
        if len(piece) == _PART and line_end:
            yield rest + before
            rest = after
        else:
            rest += piece
    yield rest


def _visible_files(folder: Path) -> list[Path]:
    """Return the files in a folder and those below it, sorted by path, without hidden ones."""
    found = []
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(file for file in found if file.is_file())


def _refuse(error: OSError) -> NoReturn:
    raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from error


def _fault(file: Path) -> str | None:
    """Return the reason to skip a file; None for a text file."""
    try:
        return None if sum(1 for _ in _read(file)) else "is empty"
    except _NotTextError as error:
        return error.fault


class _NotTextError(ValueError):
    """The content of a file is not text."""

    def __init__(self, file: Path, fault: str, remedy: str) -> None:
        super().__init__(f"{file} {fault}: {remedy}")
        self.fault = fault
