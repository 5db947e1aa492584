"""Loader that chooses the tokenizer class of a `tokenizer.json`."""

import os

from axone.tokenizer.bpe import BPETokenizer
from axone.tokenizer.char import CharTokenizer
from axone.tokenizer.files import read_document
from axone.tokenizer.protocol import Tokenizer


def load(path: str | os.PathLike[str]) -> Tokenizer:
    """Load a `tokenizer.json` of any supported kind.

    Parameters
    ----------
    path : path-like
        The file, or the folder that holds it. A `tokenizer_config.json` in the folder names the special tokens.

    Returns
    -------
    Tokenizer
        A `CharTokenizer`, a `BPETokenizer` or a `SentencePieceTokenizer`, with the ids of the file.

    Raises
    ------
    TokenizerError
        If the file is damaged or has an unsupported part, which the message names.
    OSError
        If it cannot be read.
    """
    document, config = read_document(path)
    decoder = document.get("decoder") if isinstance(document, dict) else None
    characters = isinstance(decoder, dict) and decoder.get("type") == "Fuse"
    if characters:
        return CharTokenizer.from_document(document)
    from axone.tokenizer.sentencepiece import SentencePieceTokenizer  # 2 ms, not needed for characters
    from axone.tokenizer.sentencepiece.huggingface import is_sentencepiece

    return (SentencePieceTokenizer if is_sentencepiece(document) else BPETokenizer).from_document(document, config)
