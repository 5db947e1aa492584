"""Where training text comes from: the user's files, or the source of Python's standard library on this machine.

And the folder where it is kept as tokens, with the tokenizer that was learned from it.
"""

from __future__ import annotations

import codecs
import os
import sysconfig
from collections.abc import Callable, Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import NoReturn

from axone.llm.data.dataset import TokenDataset
from axone.llm.data.token_file import holds, text_sum
from axone.llm.errors import CheckpointError
from axone.tokenizer import Tokenizer, TokenizerError, load

_PART = 1 << 24  # characters: a longer file comes in parts, so that it need not fit into memory


class TextFiles:
    """The texts of a file, or of all text files in a folder and those below it, sorted by path.

    Each iteration reads them anew, so they can be gone through again and again and are never in memory together. A file
    of more than 16 million characters comes in parts, cut where a line ends: joined with new lines, the texts are the
    whole. What holds a NUL byte is no text but data, whatever its name. Files in a folder that are none, are not UTF-8, are
    empty or hidden are passed over.

    Parameters
    ----------
    path : path

    Raises
    ------
    ValueError
        If there is no text: no such path, an empty file, one that is not UTF-8 or holds a NUL byte, a folder without text.
        If something of it that is not hidden cannot be read.
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
        if not path.is_file():
            raise ValueError(
                f"the data must be a file that can be read again and again, and {path} is none: save it first"
            )
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


def learned_dataset(texts: Iterable[str], folder: str | PathLike[str], learn: Callable[[], Tokenizer]) -> TokenDataset:
    """Return texts as tokens of a tokenizer learned from them; both are kept in a folder and reused for the same texts.

    Parameters
    ----------
    texts : iterable of str
        Gone through several times, so it must be possible to go through them again.
    folder : path
        Made if it is not there.
    learn : callable
        Returns the tokenizer; called only if the folder does not hold whole tokens of these very texts.

    Returns
    -------
    TokenDataset

    Raises
    ------
    ValueError
        If there is no text, or the tokenizer does not know it.
    OSError
        If the folder cannot be written.
    """
    folder = Path(folder)
    path = folder / "tokens.bin"
    try:
        tokenizer = load(folder)
        if holds(path, tokenizer, text_sum(texts, None)):
            return TokenDataset.open(path, tokenizer)
    except (OSError, TokenizerError, CheckpointError):
        pass
    tokenizer = learn()
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    return TokenDataset.from_texts(texts, tokenizer, path)


def _read(file: Path) -> Iterator[str]:
    r"""Yield a file's text in pieces, its lines ending in ``\n``."""
    try:
        with file.open(encoding="utf-8") as stream:
            while piece := stream.read(_PART):
                if "\0" in piece:
                    raise _NoTextError(
                        f"the text must hold no NUL byte, and {file} does, as UTF-16 and data that is no text do: "
                        f"convert it to UTF-8 first"
                    )
                yield piece
    except UnicodeDecodeError:
        raise _NoTextError(
            f"the text must be UTF-8, and {file} is not at byte {_first_bad_byte(file)}: convert it first"
        ) from None
    except OSError as error:
        _refuse(error)


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
    """Return the files in a folder and those below it, sorted by path, without what is hidden."""
    found = []
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(file for file in found if file.is_file())


def _refuse(error: OSError) -> NoReturn:
    raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from error


def _is_text(file: Path) -> bool:
    try:
        return sum(1 for _ in _read(file)) > 0
    except _NoTextError:
        return False


class _NoTextError(ValueError):
    """A file can be read, and is no text."""
