"""Loader that chooses the tokenizer class of a `tokenizer.json`."""

import os

from axone.tokenizer.bpe import BPETokenizer
from axone.tokenizer.char import CharTokenizer
from axone.tokenizer.files import read_json
from axone.tokenizer.protocol import Tokenizer


def load(path: str | os.PathLike[str]) -> Tokenizer:
    """Load a `tokenizer.json` of any supported kind.

    Parameters
    ----------
    path : path-like
        The file, or the folder that holds it.

    Returns
    -------
    Tokenizer
        A `CharTokenizer` or a `BPETokenizer`, with the ids of the file.

    Raises
    ------
    TokenizerError
        If the file is damaged or has an unsupported part, which the message names.
    OSError
        If it cannot be read.
    """
    document = read_json(path)
    decoder = document.get("decoder") if isinstance(document, dict) else None
    characters = isinstance(decoder, dict) and decoder.get("type") == "Fuse"
    return (CharTokenizer if characters else BPETokenizer).from_document(document)
