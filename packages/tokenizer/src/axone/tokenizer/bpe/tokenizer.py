"""Byte-level BPE tokenizer: the public class, which combines training, encoding and the file formats.

`encoder` converts text to ids, `train` trains a model, `huggingface` and `tiktoken` convert files.

References
----------
.. [1] R. Sennrich, B. Haddow, A. Birch, "Neural Machine Translation of Rare Words with Subword Units",
   https://arxiv.org/abs/1508.07909
.. [2] A. Radford et al., "Language Models are Unsupervised Multitask Learners", section 2.2, for bytes and
   pre-tokenization,
   https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
.. [3] tiktoken, for the meaning of `allowed_special`, https://github.com/openai/tiktoken
"""

import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Self

from axone.tokenizer.bpe import gguf, huggingface, tiktoken
from axone.tokenizer.bpe.apply_merges import PairMerger
from axone.tokenizer.bpe.encoder import TextEncoder
from axone.tokenizer.bpe.model import BPEModel
from axone.tokenizer.bpe.patterns import NAMES, portable_pattern, pre_tokenizer
from axone.tokenizer.bpe.subword import SubwordTokenizer
from axone.tokenizer.errors import check_training_texts
from axone.tokenizer.files import read_document


class BPETokenizer(SubwordTokenizer):
    """Byte-level BPE tokenizer, created by `train`, `load` or `from_tiktoken`.

    Every text can be encoded, and `decode` returns it exactly. A tokenizer is safe to use from several threads at
    once.

    Parameters
    ----------
    model : BPEModel
        The vocabulary, the merges and the special tokens.

    Examples
    --------
    >>> from axone.tokenizer import BPETokenizer
    >>> tokenizer = BPETokenizer.train(
    ...     "low lower lowest", vocab_size=260, special_tokens=["<|end|>"]
    ... )
    >>> ids = tokenizer.encode("low lower")
    >>> ids
    [257, 258, 101, 114]
    >>> [tokenizer.decode_bytes([id]) for id in ids]
    [b'low', b' low', b'e', b'r']
    >>> tokenizer.decode(tokenizer.encode("slow 🐌"))
    'slow 🐌'
    >>> tokenizer.encode("low<|end|>", allowed_special={"<|end|>"})
    [257, 259]
    >>> tokenizer.encode("low<|end|>")
    Traceback (most recent call last):
        ...
    axone.tokenizer.errors.TokenizerError: text spells the special token '<|end|>' at ...
    """

    def __init__(self, model: BPEModel) -> None:
        encoder = TextEncoder(
            pre_tokenizer(model.pattern),
            PairMerger(model.byte_ids, model.merges, model.products),
            special_tokens=model.special_tokens,
            added_tokens=model.added_tokens,
            searched_last=model.normalized_tokens,
            normalize=_compose if model.normalization == "NFC" else None,
            whole_pieces=model.vocabulary if model.ignore_merges else None,
        )
        super().__init__(model.tokens, model.roles, encoder)
        self._model = model

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int,
        *,
        pattern: str | None = "gpt2",
        special_tokens: Sequence[str] = (),
        progress: Callable[[int, int], object] | None = None,
    ) -> Self:
        """Train a vocabulary on texts.

        Parameters
        ----------
        texts : str or iterable of str
            One text, or several: a generator can yield a corpus larger than memory. Tokens do not cross from one text
            to the next, nor over special tokens.
        vocab_size : int
            Number of ids: 256 bytes, merges in order, then special tokens. The result has fewer if every piece of the
            corpus has become one token.
        pattern : str or None
            Pre-tokenization pattern; tokens do not cross its matches: ``"gpt2"``, ``"gpt4"``, a regular expression in
            the syntax of the `regex` package that Hugging Face and tiktoken read alike, or None to keep texts whole.
        special_tokens : sequence of str
            Control tokens, such as ``"<|endoftext|>"``.
        progress : callable, optional
            Called with the number of finished merges and of all merges; the first is 0 while texts are read.

        Returns
        -------
        BPETokenizer
            The same for the same texts in any order: of equally frequent pairs the smallest pair of ids is merged
            first.

        Raises
        ------
        TokenizerError
            If `vocab_size` is too small for the bytes and the special tokens, a special token is empty or repeated,
            the pattern is not a portable regular expression or too slow, a text holds a lone surrogate, or the text
            is the name of a file.
        """
        check_training_texts(texts)
        from axone.tokenizer.bpe.train import train_model  # 3 ms, most of it `subprocess`

        model = train_model(texts, vocab_size, pattern=pattern, special_tokens=special_tokens, progress=progress)
        return cls(model)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load a `tokenizer.json` that `save` or Hugging Face wrote.

        Parameters
        ----------
        path : path-like
            The file, or the folder that holds it. A `tokenizer_config.json` in the folder names the special tokens.

        Returns
        -------
        BPETokenizer
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
        BPETokenizer
            With the ids of the document.

        Raises
        ------
        TokenizerError
            If the document is damaged or has an unsupported part, which the message names.
        """
        return cls(huggingface.from_document(document, config))

    @classmethod
    def from_tiktoken(
        cls, ranks: Mapping[bytes, int], pattern: str | None, special_tokens: Mapping[str, int] | None = None
    ) -> Self:
        """Create the tokenizer that returns the same ids as ``tiktoken.Encoding``.

        Parameters
        ----------
        ranks : mapping of bytes to int
            tiktoken's ``mergeable_ranks``.
        pattern : str or None
            tiktoken's ``pat_str``, or a name as for `train`. Text between its matches, which tiktoken drops, is kept.
        special_tokens : mapping of str to int, optional
            The ids of special tokens.

        Returns
        -------
        BPETokenizer
            With the ids of `ranks` and `special_tokens`.

        Raises
        ------
        TokenizerError
            If two tokens have the same id, or the pattern is not a portable regular expression.

        Examples
        --------
        >>> from axone.tokenizer import BPETokenizer
        >>> ranks = {bytes([byte]): byte for byte in range(256)} | {b"ow": 256, b"low": 257}
        >>> BPETokenizer.from_tiktoken(ranks, "gpt2", {"<|end|>": 258}).encode("low")
        [257]
        """
        if pattern is not None:
            pattern = NAMES.get(pattern) or portable_pattern(pattern, "fancy-regex")
        return cls(tiktoken.from_ranks(ranks, pattern, special_tokens or {}))

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, object]) -> Self:
        """Create the tokenizer from the metadata of a GGUF file with a ``gpt2`` vocabulary.

        Parameters
        ----------
        metadata : mapping of str to object
            The metadata of the file, as Python values or NumPy arrays.

        Returns
        -------
        BPETokenizer
            With the ids of the file.

        Raises
        ------
        TokenizerError
            If the metadata is damaged or names an unsupported pre-tokenizer.
        """
        return cls(gguf.from_metadata(metadata))

    def to_gguf(self) -> dict[str, object]:
        """Return the tokenizer metadata of a GGUF file, as Python values.

        Returns
        -------
        dict
            The keys ``tokenizer.ggml.model``, ``pre``, ``tokens``, ``token_type``, ``merges`` and those of special
            tokens.

        Raises
        ------
        TokenizerError
            If GGUF has no name for the pattern.
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
            If the format cannot express the tokenizer: ids from tiktoken with gaps between them.
        """
        return huggingface.to_document(self._model)

    def to_tiktoken(self) -> dict[bytes, int]:
        """Return the ``mergeable_ranks`` of the ``tiktoken.Encoding`` that returns the same ids.

        The encoding also takes `pattern` as ``pat_str`` and `special_tokens`.

        Returns
        -------
        dict of bytes to int
            The rank of each token, which is its id, without special tokens.

        Raises
        ------
        TokenizerError
            If the ids, which are those of a loaded file, are not in the order of its merges.
        """
        return tiktoken.to_ranks(self._model)

    @property
    def pattern(self) -> str | None:
        """Pre-tokenization pattern; None keeps texts whole."""
        return self._model.pattern

    @property
    def merges(self) -> list[tuple[int, int]]:
        """Pairs of ids that are merged, lowest rank first."""
        return list(self._model.merges)

    def __repr__(self) -> str:
        return f"BPETokenizer({self.vocab_size} tokens, {len(self._model.special_tokens)} of them special)"


def _compose(text: str, first: bool) -> str:
    """Return a text in the normal form NFC of this Python's Unicode version."""
    del first
    return unicodedata.normalize("NFC", text)
