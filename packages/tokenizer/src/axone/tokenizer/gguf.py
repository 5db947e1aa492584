"""Tokenizer from the metadata of a GGUF file."""

from collections.abc import Mapping

from axone.tokenizer.bpe import BPETokenizer
from axone.tokenizer.errors import TokenizerError
from axone.tokenizer.files import brief
from axone.tokenizer.gguf_metadata import PREFIX, Metadata
from axone.tokenizer.protocol import Tokenizer


def from_gguf(metadata: Mapping[str, object]) -> Tokenizer:
    """Create the tokenizer of a GGUF file from its metadata.

    Parameters
    ----------
    metadata : mapping of str to object
        The metadata of the file, as Python values or NumPy arrays. The keys that begin with ``tokenizer.ggml.`` are
        used.

    Returns
    -------
    Tokenizer
        With the ids of the file.

    Raises
    ------
    TokenizerError
        If the metadata is damaged, or the vocabulary or its pre-tokenizer is not supported: the message names it.
    """
    model = Metadata(metadata).text("model")
    if model == "gpt2":
        return BPETokenizer.from_gguf(metadata)
    if model == "llama":
        from axone.tokenizer.sentencepiece import SentencePieceTokenizer  # not before it is used

        return SentencePieceTokenizer.from_gguf(metadata)
    raise TokenizerError(f'{PREFIX}model ({brief(model)}) is not supported: it must be "gpt2" or "llama"')
