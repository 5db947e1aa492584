"""Token files: a text as 16 or 32 bits a token, written once and read where it is needed.

::

    NAME.bin             the tokens, one after the other, as NumPy's `memmap` reads them
    NAME.documents.bin   where each document ends, 64 bits each, if there are several
    NAME.json            what they hold, and the sums of text, tokenizer and files: written last

A file is made anew only if the text or the tokenizer has changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from axone.llm.errors import CheckpointError
from axone.llm.storage.atomic import write_chunks, write_json
from axone.llm.storage.json_schema import Format, from_json, numbered
from axone.llm.storage.regular import read_json, sha256
from axone.llm.types import Ids
from axone.tokenizer import Tokenizer

METADATA_FORMAT = Format((numbered,))


@dataclass(frozen=True, kw_only=True)
class TokenFile:
    """What ``NAME.json`` says.

    Attributes
    ----------
    dtype : {"uint16", "uint32"}
    tokens, documents : int
        How many there are.
    text, tokenizer : str
        SHA-256 sums of what the tokens were made from.
    sha256 : str
        The sum of ``NAME.bin``.
    """

    dtype: Literal["uint16", "uint32"]
    tokens: int
    documents: int
    text: str
    tokenizer: str
    sha256: str


def token_dtype(tokenizer: Tokenizer) -> np.dtype[Any]:
    """Return the smallest dtype that holds all tokens."""
    return np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)


def encoded(texts: Iterable[str], tokenizer: Tokenizer, separator: Sequence[int] | None) -> Iterator[Ids]:
    """Yield the tokens of each document; those of the separator come with all but the last.

    Parameters
    ----------
    texts : iterable of str
    tokenizer : Tokenizer
    separator : sequence of int, optional
        By default those of a new line.

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
    path: Path, documents: Iterable[Ids], tokenizer: Tokenizer, text: str, *, tokens: int | None = None
) -> None:
    """Write a token file, document by document.

    Parameters
    ----------
    path : Path
        ``NAME.bin``.
    documents : iterable of ndarray
        The tokens of each.
    tokenizer : Tokenizer
        The one that made them.
    text : str
        The text's sum.
    tokens : int, optional
        How many there are, if that is known before.

    Raises
    ------
    OSError
        If it cannot be written; an old file stays.
    """
    dtype = token_dtype(tokenizer)
    ends: list[int] = []
    sum_ = hashlib.sha256()

    def parts() -> Iterator[memoryview]:
        for ids in documents:
            part = np.ascontiguousarray(ids, dtype.newbyteorder("<")).view(np.uint8).data
            sum_.update(part)
            ends.append((ends[-1] if ends else 0) + len(ids))
            yield part
        if not any(ends):
            raise ValueError("a dataset needs at least one token, and the text is empty")

    metadata_path(path).unlink(missing_ok=True)  # what it says holds no longer
    write_chunks(path, parts(), None if tokens is None else tokens * dtype.itemsize)
    if len(ends) > 1:
        write_chunks(ends_path(path), [np.asarray(ends, "<i8").view(np.uint8).data], size=8 * len(ends))
    content = TokenFile(
        dtype="uint16" if dtype.itemsize == 2 else "uint32",
        tokens=ends[-1] if ends else 0,
        documents=len(ends),
        text=text,
        tokenizer=tokenizer.sha256(),
        sha256=sum_.hexdigest(),
    )
    write_json(metadata_path(path), METADATA_FORMAT.stamp(asdict(content)))


def read_tokens(path: Path, tokenizer: Tokenizer) -> tuple[Ids, NDArray[np.int64]]:
    """Open a token file.

    Returns
    -------
    tokens : memmap of uint16 or uint32, shape (N,)
    ends : ndarray of int, shape (D,)
        Where each document ends.

    Raises
    ------
    CheckpointError
        If it is not there, damaged, or of another tokenizer.
    """
    content = _read_metadata(path)
    if content.tokenizer != tokenizer.sha256():
        raise CheckpointError(path, "was made by another tokenizer")
    if sha256(path) != content.sha256:
        raise CheckpointError(path, "is damaged: its SHA-256 sum is another")
    dtype = np.dtype(content.dtype).newbyteorder("<")
    if content.tokens < 1 or path.stat().st_size != content.tokens * dtype.itemsize:
        raise CheckpointError(path, f"must hold {content.tokens} tokens of {content.dtype}")
    tokens = np.memmap(path, dtype, mode="r")
    ends = np.asarray([content.tokens])
    if content.documents > 1:
        try:
            ends = np.fromfile(ends_path(path), "<i8")
        except OSError as error:
            raise CheckpointError(ends_path(path), f"cannot be read ({error.strerror})") from error
        if len(ends) != content.documents or ends[-1] != content.tokens or (np.diff(ends) < 0).any():
            raise CheckpointError(ends_path(path), f"must hold the ends of {content.documents} documents")
    return tokens, ends.astype(np.int64)


def _read_metadata(path: Path) -> TokenFile:
    """Return what the metadata file of a token file says."""
    metadata = metadata_path(path)
    return from_json(TokenFile, METADATA_FORMAT.upgrade(read_json(metadata), metadata), metadata)


def holds(path: Path, tokenizer: Tokenizer, text: str) -> bool:
    """Tell whether a whole token file is there that was made from a text, by its sum, with a tokenizer."""
    try:
        read_tokens(path, tokenizer)
        return _read_metadata(path).text == text
    except CheckpointError:
        return False


def text_sum(texts: Iterable[str], separator: Sequence[int] | None) -> str:
    """Return the SHA-256 sum of documents and what stands between them."""
    total = hashlib.sha256(repr(separator if separator is None else list(separator)).encode())
    for text in texts:
        content = text.encode(errors="surrogatepass")  # the tokenizer will say what is wrong with it
        total.update(len(content).to_bytes(8, "little"))
        total.update(content)
    return total.hexdigest()


def metadata_path(path: Path) -> Path:
    """Return the path of the file that says what a token file holds."""
    return path.with_suffix(".json")


def ends_path(path: Path) -> Path:
    """Return the path of the file that holds where each document ends."""
    return path.with_suffix(".documents.bin")
