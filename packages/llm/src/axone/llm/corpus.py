"""Where training text comes from: the user's files, or the source of Python's standard library on this machine."""

from __future__ import annotations

import codecs
import sysconfig
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

_PART = 1 << 24  # characters: a longer file comes in parts, so that it need not fit into memory


class TextFiles:
    """The texts of a file, or of all text files in a folder and those below it, sorted by path.

    Each iteration reads them anew, so they can be gone through again and again and are never in memory together. A file
    of more than 16 million characters comes in parts, cut where a line ends: joined with new lines, the texts are the
    whole. Files in a folder that are not UTF-8, are empty or hidden are passed over.

    Parameters
    ----------
    path : path

    Raises
    ------
    ValueError
        If there is no text: no such path, an empty file, one that is not UTF-8, a folder without text.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        path = Path(path)
        if path.is_dir():
            self._files = [file for file in _visible_files(path) if _is_text(file)]
            if not self._files:
                raise ValueError(f"the folder must hold text files in UTF-8, and {path} holds none")
            return
        if not path.exists():
            raise ValueError(f"the data must be a file or a folder, and {path} is not there")
        self._files = [path]
        if not any(_read(path)):
            raise ValueError(f"the file must hold text, and {path} is empty")

    def __iter__(self) -> Iterator[str]:
        for file in self._files:
            yield from _parts(file)

    @property
    def num_bytes(self) -> int:
        """How large the files are together."""
        return sum(file.stat().st_size for file in self._files)


def read_text(path: str | PathLike[str]) -> str:
    """Return the text of a file, or of all text files in a folder, joined with new lines.

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


def _read(file: Path) -> Iterator[str]:
    r"""Yield a file's text in pieces, its lines ending in ``\n``."""
    try:
        with file.open(encoding="utf-8") as stream:
            while piece := stream.read(_PART):
                yield piece
    except UnicodeDecodeError:
        raise ValueError(
            f"the text must be UTF-8, and {file} is not at byte {_first_bad_byte(file)}: convert it first"
        ) from None
    except OSError as error:
        raise ValueError(f"the file {file} cannot be read: {error.strerror}") from error


def _first_bad_byte(file: Path) -> int:
    """Return where a file stops being UTF-8."""
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
    """Yield a file's text in parts that new lines join to the whole."""
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
    found = (file for file in folder.rglob("*") if file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(folder).parts))


def _is_text(file: Path) -> bool:
    try:
        pieces = 0
        for piece in _read(file):
            pieces += 1
            if "\0" in piece:
                return False
    except ValueError:
        return False
    return pieces > 0
