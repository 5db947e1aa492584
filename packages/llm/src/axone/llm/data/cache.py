"""Cache of token files: ids and trained tokenizers of texts, kept in the user's cache folder for the next training."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import Protocol, runtime_checkable

from axone.llm.data import token_file
from axone.llm.data.dataset import TokenDataset
from axone.llm.errors import CheckpointError, warn_caller
from axone.llm.storage.atomic import require_creatable
from axone.tokenizer import Tokenizer, TokenizerError, load

TOKENS = "tokens.bin"


@runtime_checkable
class SizedTexts(Protocol):
    """Texts that know their size, such as `TextFiles`."""

    @property
    def num_bytes(self) -> int:
        """The size of all texts, in bytes."""


def user_cache() -> Path:
    """Return the folder in which Axone keeps what can be made again.

    ``AXONE_CACHE`` if that is set; otherwise ``axone`` in the platform's cache folder, such as ``~/.cache``.
    """
    chosen = os.environ.get("AXONE_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "axone" / "axone" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "axone"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "axone"


def cached_dataset(
    texts: Iterable[str],
    name: str,
    tokenizer: Tokenizer | Callable[[], Tokenizer],
    *,
    cache: str | PathLike[str] | None = None,
    min_bytes: int = 0,
) -> TokenDataset:
    """Encode texts, and keep the ids, and a tokenizer that is trained on them, for the next call with the same texts.

    If the cache cannot be written, the ids stay in memory and a warning says why.

    Parameters
    ----------
    texts : iterable of str
        Iterated several times.
    name : str
        Name of the cache entry: texts of another name get another entry, and changed texts of the same name replace it.
    tokenizer : Tokenizer or callable
        A tokenizer, or a function that trains one; it is called only if the cache has none for these very texts.
    cache : path, optional
        The cache folder, by default `user_cache`.
    min_bytes : int, default 0
        Smaller texts, of known size, are encoded in memory and not kept: that is as fast as reading them from the cache.

    Returns
    -------
    TokenDataset

    Raises
    ------
    ValueError
        If there is no text, or the tokenizer cannot encode it.

    Examples
    --------
    >>> import tempfile
    >>> from axone.llm import cached_dataset
    >>> from axone.tokenizer import BPETokenizer
    >>> texts = ["to be or not to be"] * 3
    >>> with tempfile.TemporaryDirectory() as cache:
    ...     dataset = cached_dataset(
    ...         texts, "hamlet", lambda: BPETokenizer.train(texts, 260), cache=cache
    ...     )
    >>> dataset.num_documents
    3
    """
    if isinstance(texts, SizedTexts) and texts.num_bytes < min_bytes:
        return TokenDataset.from_texts(texts, tokenizer if isinstance(tokenizer, Tokenizer) else tokenizer())
    try:
        root = user_cache() if cache is None else Path(cache)
        folder = root / "tokens" / hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:16]
        require_creatable(folder / TOKENS)
        folder.mkdir(parents=True, exist_ok=True)
        if not folder.resolve().is_relative_to(root.resolve()):
            raise OSError(errno.ELOOP, f"{folder} is outside of {root}, to which a symbolic link leads")  # noqa: TRY301
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home folder
        return _in_memory(texts, tokenizer if isinstance(tokenizer, Tokenizer) else tokenizer(), error)
    path, text = folder / TOKENS, token_file.text_sum(texts, None)
    try:
        known = tokenizer if isinstance(tokenizer, Tokenizer) else load(folder)
        return TokenDataset.of_file(token_file.open_tokens(path, known, text=text), known)
    except (OSError, TokenizerError, CheckpointError):
        known = tokenizer if isinstance(tokenizer, Tokenizer) else tokenizer()
    try:
        if known is not tokenizer:
            known.save(folder)
        documents = token_file.encoded(texts, known, None)
        return TokenDataset.of_file(token_file.write_tokens(path, documents, known, text, replace_any=True), known)
    except OSError as error:
        return _in_memory(texts, known, error)


def _in_memory(texts: Iterable[str], tokenizer: Tokenizer, error: OSError | RuntimeError) -> TokenDataset:
    """Return texts encoded in memory, and warn that the cache does not keep them."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    warn_caller(f"the cache cannot be written, so that tokens stay in memory: {reason}")
    return TokenDataset.from_texts(texts, tokenizer)
