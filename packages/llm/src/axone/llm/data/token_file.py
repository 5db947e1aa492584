"""Token files: the ids of a text as 16 or 32 bits per token, written once and memory-mapped.

::

    NAME                the ids, one after the other, little-endian; any name, such as tokens.bin
    NAME.documents      end of each document, 64 bits each, if there are several
    NAME.json           metadata: sizes, and SHA-256 sums of the text, the tokenizer and the ids

A file is written again only if the text or the tokenizer has changed. A file that is not part of a token file, such as a
``NAME.json`` of the user's own, is never replaced. The metadata are renamed into place before the ids, so that whatever
moment a process is killed at, what it leaves is known to be a token file.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from axone.llm.errors import CheckpointError
from axone.llm.storage.atomic import replacing_file, sync_folder, write_chunks, write_json
from axone.llm.storage.json_schema import FORMAT, Format, from_json, numbered
from axone.llm.storage.regular import open_regular, read_json
from axone.llm.types import Ids
from axone.tokenizer import Tokenizer

METADATA_FORMAT = Format((numbered,))
_SUMMED_AT_ONCE = 1 << 20  # ids


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Metadata of a token file, as ``NAME.json`` has them.

    Attributes
    ----------
    dtype : {"uint16", "uint32"}
    tokens, documents : int
        Their numbers.
    text, tokenizer : str
        SHA-256 sums of the text and the tokenizer.
    sha256 : str
        SHA-256 sum of the ids.
    """

    dtype: Literal["uint16", "uint32"]
    tokens: int
    documents: int
    text: str
    tokenizer: str
    sha256: str

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.documents < 1:
            raise ValueError(f"tokens ({self.tokens}) and documents ({self.documents}) must be at least 1")


class TokenFile:
    """A memory-mapped token file.

    Parameters
    ----------
    path : Path
        For messages, and to link it.
    file : FileIO
        The open file; the mapping keeps a descriptor of its own.
    metadata : Metadata
    ends : ndarray of int, shape (D,)
        End of each document.

    Attributes
    ----------
    path : Path
    metadata : Metadata
    tokens : ndarray of uint16 or uint32, shape (N,)
        Read-only.
    ends : ndarray of int, shape (D,)
    """

    def __init__(self, path: Path, file: FileIO, metadata: Metadata, ends: NDArray[np.int64]) -> None:
        self.path = path
        self.metadata = metadata
        self.ends = ends
        self._status = os.fstat(file.fileno())
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.tokens: Ids = np.frombuffer(mapping, np.dtype(metadata.dtype).newbyteorder("<"))

    def require_whole(self) -> None:
        """Check that the file has not been cut short: reading beyond its end would end the process (SIGBUS).

        The path is checked, which takes 2 us: worker processes close the descriptors that they inherit. A file that was
        removed or replaced at this path stays mapped, and nothing can cut it short by name.

        Raises
        ------
        CheckpointError
            If it has.
        """
        with contextlib.suppress(OSError):
            status = self.path.stat()
            if os.path.samestat(status, self._status) and status.st_size < self._status.st_size:
                raise CheckpointError(
                    self.path,
                    f"was cut short from {self._status.st_size:,} to {status.st_size:,} bytes while it was read",
                )

    def link(self, target: Path) -> bool:
        """Give the file a second name, with metadata beside it, and return whether that worked.

        It does not on another disk, on one without links, if the target exists, or if the path names another file by now.
        """
        try:
            os.link(self.path, target)
        except OSError:
            return False
        if not os.path.samestat(target.lstat(), self._status):
            target.unlink()
            return False
        _write_metadata(target, self.metadata, self.ends)
        sync_folder(target.parent)
        return True


def metadata_path(path: Path) -> Path:
    """Return the path of a token file's metadata."""
    return path.with_name(f"{path.name}.json")


def documents_path(path: Path) -> Path:
    """Return the path of the ends of a token file's documents."""
    return path.with_name(f"{path.name}.documents")


def token_dtype(tokenizer: Tokenizer) -> np.dtype[Any]:
    """Return the smallest dtype that holds all ids of a tokenizer."""
    return np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)


def encoded(texts: Iterable[str], tokenizer: Tokenizer, separator: Sequence[int] | None) -> Iterator[Ids]:
    """Yield the ids of each document, with those of the separator after all but the last.

    Parameters
    ----------
    texts : iterable of str
    tokenizer : Tokenizer
    separator : sequence of int, optional
        By default the ids of a line feed.

    Yields
    ------
    ndarray of uint16 or uint32, shape (N,)
    """
    dtype = token_dtype(tokenizer)
    before: Ids | None = None
    for text in texts:
        if before is not None:
            between = tokenizer.encode("\n") if separator is None else separator
            yield np.concatenate([before, np.asarray(between, dtype)])
        before = tokenizer.encode_to_array(text).astype(dtype, copy=False)
    if before is not None:
        yield before


def write_tokens(
    path: Path,
    documents: Iterable[Ids],
    tokenizer: Tokenizer,
    text: str,
    *,
    tokens: int | None = None,
    replace_any: bool = False,
) -> TokenFile:
    """Write a token file, document by document, and map it.

    Parameters
    ----------
    path : Path
    documents : iterable of ndarray
        The ids of each document.
    tokenizer : Tokenizer
        The one that made them.
    text : str
        SHA-256 sum of the text.
    tokens : int, optional
        The number of ids, if it is known before.
    replace_any : bool, default False
        Whether files that are not a token file may be replaced: in a cache folder.

    Raises
    ------
    ValueError
        If there is no token.
    CheckpointError
        If a file there is not part of a token file.
    OSError
        If it cannot be written; an old token file stays.
    """
    if not replace_any:
        _require_replaceable(path)
    dtype = token_dtype(tokenizer)
    ends: list[int] = []
    total = hashlib.sha256()
    with replacing_file(path, None if tokens is None else tokens * dtype.itemsize) as file:
        for ids in documents:
            part = np.ascontiguousarray(ids, dtype.newbyteorder("<")).view(np.uint8).data
            total.update(part)
            file.write(part)
            ends.append((ends[-1] if ends else 0) + len(ids))
        if not any(ends):
            raise ValueError("text (0 tokens) must not be empty")
        metadata = Metadata(
            dtype="uint16" if dtype.itemsize == 2 else "uint32",
            tokens=ends[-1],
            documents=len(ends),
            text=text,
            tokenizer=tokenizer.sha256(),
            sha256=total.hexdigest(),
        )
        _write_metadata(path, metadata, np.asarray(ends, np.int64))
    with _open(path) as opened:
        return TokenFile(path, opened, metadata, np.asarray(ends, np.int64))


def open_tokens(path: Path, tokenizer: Tokenizer, *, text: str | None = None) -> TokenFile:
    """Verify and map a token file.

    Parameters
    ----------
    path : Path
    tokenizer : Tokenizer
    text : str, optional
        The SHA-256 sum that its text must have.

    Raises
    ------
    CheckpointError
        If it is not there, damaged, of another tokenizer or of another text.
    """
    metadata, documents = _read_metadata(path)
    if metadata.tokenizer != tokenizer.sha256():
        raise CheckpointError(path, "was made by another tokenizer")
    if text is not None and metadata.text != text:
        raise CheckpointError(path, "was made from another text")
    with _open(path) as file:
        expected = metadata.tokens * np.dtype(metadata.dtype).itemsize
        if os.fstat(file.fileno()).st_size != expected:
            raise CheckpointError(path, f"is damaged: {metadata.tokens} tokens of {metadata.dtype} have another size")
        if hashlib.file_digest(file, "sha256").hexdigest() != metadata.sha256:
            raise CheckpointError(path, "is damaged: its SHA-256 sum is not that of its metadata")
        ends = np.asarray([metadata.tokens]) if metadata.documents == 1 else _read_ends(documents, metadata)
        return TokenFile(path, file, metadata, ends)


def text_sum(texts: Iterable[str], separator: Sequence[int] | None) -> str:
    """Return the SHA-256 sum of documents and the separator between them."""
    total = hashlib.sha256(repr(separator if separator is None else list(separator)).encode())
    for text in texts:
        content = text.encode(errors="surrogatepass")  # the tokenizer refuses surrogates by name
        total.update(len(content).to_bytes(8, "little"))
        total.update(content)
    return total.hexdigest()


def _write_metadata(path: Path, metadata: Metadata, ends: NDArray[np.int64]) -> None:
    """Write the metadata of a token file, and the ends of its documents if there are several."""
    write_json(metadata_path(path), METADATA_FORMAT.stamp(asdict(metadata)))
    if len(ends) > 1:
        write_chunks(documents_path(path), [ends.astype("<i8", copy=False).view(np.uint8).data], size=8 * len(ends))


def _open(path: Path) -> FileIO:
    try:
        return open_regular(path)
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror or error})") from error


def _read_metadata(path: Path) -> tuple[Metadata, Path]:
    """Return the metadata of a token file, and the path of the ends of its documents.

    Files of format 0 are called ``STEM.json`` and ``STEM.documents.bin`` instead.
    """
    metadata, documents = metadata_path(path), documents_path(path)
    if not os.path.lexists(metadata):
        old = path.with_suffix(".json")
        with contextlib.suppress(CheckpointError):  # a file of the user's
            content = read_json(old)
            if FORMAT not in content:
                return from_json(Metadata, content, old), path.with_suffix(".documents.bin")
    return from_json(Metadata, METADATA_FORMAT.upgrade(read_json(metadata), metadata), metadata), documents


def _read_ends(path: Path, metadata: Metadata) -> NDArray[np.int64]:
    """Return the ends of a token file's documents."""
    with _open(path) as file:
        whole = os.fstat(file.fileno()).st_size == 8 * metadata.documents
        ends = np.frombuffer(file.read() if whole else b"", "<i8").astype(np.int64)
    if len(ends) != metadata.documents or ends[-1] != metadata.tokens or (np.diff(ends, prepend=0) < 0).any():
        raise CheckpointError(path, f"must hold the ends of {metadata.documents} documents")
    return ends


def _require_replaceable(path: Path) -> None:
    """Check that a new token file would replace a token file, an empty file or none.

    Raises
    ------
    CheckpointError
        If it would replace another file.
    """
    present = [each for each in (path, metadata_path(path), documents_path(path)) if os.path.lexists(each)]
    if not present or (present == [path] and path.is_file() and not path.stat().st_size):
        return
    try:
        _read_metadata(path)
    except CheckpointError as error:
        reason = "exists, and is not part of a token file: name another path, or remove it"
        raise CheckpointError(present[0], reason) from error


def ids_sum(ids: NDArray[Any]) -> str:
    """Return a SHA-256 sum of ids, whatever their dtype in memory or in a file."""
    total = hashlib.sha256()
    for start in range(0, len(ids), _SUMMED_AT_ONCE):
        total.update(ids[start : start + _SUMMED_AT_ONCE].astype("<u4").data)
    return total.hexdigest()
