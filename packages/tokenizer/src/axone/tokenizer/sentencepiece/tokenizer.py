"""SentencePiece BPE tokenizer with byte fallback: the public class.

References
----------
.. [1] T. Kudo, J. Richardson, "SentencePiece: A simple and language independent subword tokenizer and detokenizer",
   https://arxiv.org/abs/1808.06226
.. [2] Hugging Face tokenizers, for the meaning of `tokenizer.json`, https://huggingface.co/docs/tokenizers
"""

import os
from collections.abc import Iterable, Mapping
from typing import Self

from axone.tokenizer.bpe.encoder import TextEncoder
from axone.tokenizer.bpe.patterns import WholeTextSplitter
from axone.tokenizer.bpe.subword import SubwordTokenizer
from axone.tokenizer.files import read_document
from axone.tokenizer.sentencepiece import gguf, huggingface
from axone.tokenizer.sentencepiece.merger import CharacterMerger, SpaceSplitter
from axone.tokenizer.sentencepiece.model import SPACE, SentencePieceModel


class SentencePieceTokenizer(SubwordTokenizer):
    """SentencePiece BPE tokenizer with byte fallback, created by `load` or `from_gguf`.

    Merges start from characters instead of bytes; a character that is not in the vocabulary becomes byte tokens. A
    space is added before a text, and `decode` removes one space at the begin. So a text that begins with a space may
    lose it. `decode_bytes` and `stream_decoder` remove nothing, because ids that continue a text begin with a space.

    Parameters
    ----------
    model : SentencePieceModel
        The vocabulary, the merges and the special tokens.
    """

    def __init__(self, model: SentencePieceModel) -> None:
        encoder = TextEncoder(
            SpaceSplitter() if model.splits_before_space else WholeTextSplitter(),
            CharacterMerger(model),
            special_tokens=model.special_tokens,
            added_tokens=model.added_tokens,
            normalize=self._normalize,
        )
        super().__init__(model.tokens, model.roles, encoder)
        self._model = model

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load a `tokenizer.json` that `save` or Hugging Face wrote.

        Parameters
        ----------
        path : path-like
            The file, or the folder that holds it. A `tokenizer_config.json` in the folder names the special tokens.

        Returns
        -------
        SentencePieceTokenizer
            With the ids of the file.

        Raises
        ------
        TokenizerError
            If the file is damaged or has an unsupported part, which the message names.
        OSError
            If it cannot be read.
        """
        return cls.from_document(*read_document(path))

    @classmethod
    def from_document(cls, document: object, config: object = None) -> Self:
        """Create the tokenizer from the parsed JSON of a `tokenizer.json`.

        Parameters
        ----------
        document : object
            The result of `json.loads` or of `to_document`.
        config : object
            The parsed `tokenizer_config.json`, or None. It names the tokens for the begin and the end of a text.

        Returns
        -------
        SentencePieceTokenizer
            With the ids of the document.

        Raises
        ------
        TokenizerError
            If the document is damaged or has an unsupported part, which the message names.
        """
        return cls(huggingface.from_document(document, config))

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, object]) -> Self:
        """Create the tokenizer from the metadata of a GGUF file with a ``llama`` vocabulary.

        Parameters
        ----------
        metadata : mapping of str to object
            The metadata of the file, as Python values or NumPy arrays.

        Returns
        -------
        SentencePieceTokenizer
            With the ids of the file.

        Raises
        ------
        TokenizerError
            If the metadata is damaged or not a BPE vocabulary with byte fallback.
        """
        return cls(gguf.from_metadata(metadata))

    def to_gguf(self) -> dict[str, object]:
        """Return the tokenizer metadata of a GGUF file, as Python values.

        Returns
        -------
        dict
            The keys ``tokenizer.ggml.model``, ``tokens``, ``scores``, ``token_type`` and those of special tokens.

        Raises
        ------
        TokenizerError
            If the tokenizer was not created from a GGUF file: other files have no scores.
        """
        return gguf.to_metadata(self._model)

    def to_document(self) -> dict[str, object]:
        """Return the content of this tokenizer's `tokenizer.json`.

        Returns
        -------
        dict
            The argument of `json.dumps` and of `from_document`.

        Raises
        ------
        TokenizerError
            If the format cannot express the tokenizer: ids with gaps between them.
        """
        return huggingface.to_document(self._model)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, without one space at the begin.

        Invalid UTF-8, such as an incomplete character, becomes U+FFFD; `decode_bytes` keeps it.

        Parameters
        ----------
        ids : iterable of int
            Token ids: a list, an integer array, a generator.

        Returns
        -------
        str
            The text.

        Raises
        ------
        TokenizerError
            If an id is not in the vocabulary.
        """
        text = super().decode(ids)
        return text.removeprefix(" ") if self._model.strip_prefix else text

    def _normalize(self, text: str, first: bool) -> str:
        """Replace spaces by ``▁``, and add one before the text where the model expects it."""
        if not text:
            return text
        text = text.replace(" ", SPACE)
        prefix = self._model.prefix
        if prefix == "prepend":
            return SPACE + text
        wanted = prefix == "always" or (prefix == "first" and first)
        return SPACE + text if wanted and not text.startswith(SPACE) else text

    def __repr__(self) -> str:
        special = len(self._model.special_tokens)
        return f"SentencePieceTokenizer({self.vocab_size} tokens, {special} of them special)"
