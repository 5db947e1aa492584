"""Character and byte-level BPE tokenizers in plain Python and NumPy."""

import os

from axone.tokenizer.char import CharTokenizer
from axone.tokenizer.files import read_json
from axone.tokenizer.protocol import StreamDecoder, Tokenizer, TokenizerError

__all__ = ["CharTokenizer", "StreamDecoder", "Tokenizer", "TokenizerError", "load"]


def load(path: str | os.PathLike[str]) -> Tokenizer:
    """Read a `tokenizer.json` and return the tokenizer that it describes.

    Parameters
    ----------
    path : path-like
        The file, or the folder that holds it.

    Returns
    -------
    Tokenizer
        With the ids of the file.

    Raises
    ------
    TokenizerError
        If the file is damaged, or asks for a part that is not supported: the message names it.
    OSError
        If it cannot be read.
    """
    return CharTokenizer.from_document(read_json(path))
