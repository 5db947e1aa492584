"""The byte-level BPE tokenizer, as users meet it.

Here the parts are put together, and special tokens are guarded. How text becomes ids is known by `encoder`, how a model is learned by
`train`, what files look like by `huggingface` and `tiktoken`.

References
----------
.. [1] R. Sennrich, B. Haddow, A. Birch, "Neural Machine Translation of Rare Words with Subword Units",
   https://arxiv.org/abs/1508.07909
.. [2] A. Radford et al., "Language Models are Unsupervised Multitask Learners", section 2.2, for bytes and pieces,
   https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
.. [3] tiktoken, for what `allowed_special` means, https://github.com/openai/tiktoken
"""

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from axone.tokenizer.bpe import huggingface, tiktoken
from axone.tokenizer.bpe.encoder import TextEncoder
from axone.tokenizer.bpe.model import BPEModel
from axone.tokenizer.bpe.patterns import pre_tokenizer
from axone.tokenizer.bpe.special import matcher
from axone.tokenizer.bpe.train import train_model
from axone.tokenizer.files import read_json, write_json
from axone.tokenizer.protocol import StreamDecoder, TokenizerError, check_text
from axone.tokenizer.stream import ByteStreamDecoder

_NONE: frozenset[str] = frozenset()


class BPETokenizer:
    """Byte-level BPE. Made by `train`, `load` or `from_tiktoken`.

    Every text can be encoded, and `decode` gives it back exactly. Encoding is safe to call from several threads at once.

    Parameters
    ----------
    model : BPEModel
        What was learned or read.

    Examples
    --------
    >>> from axone.tokenizer import BPETokenizer
    >>> tokenizer = BPETokenizer.train("low lower lowest", vocab_size=260, special_tokens=["<|end|>"])
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
    axone.tokenizer.protocol.TokenizerError: The text spells the special token '<|end|>' at position 3; ...
    """

    def __init__(self, model: BPEModel) -> None:
        self._model = model
        self._encoder = TextEncoder(model)
        self._tokens = model.tokens

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
        """Learn a vocabulary from texts.

        Parameters
        ----------
        texts : str or Iterable[str]
            One text, or texts one after another: a generator can bring a corpus larger than memory. Tokens do not cross from one text to
            the next, nor over special tokens.
        vocab_size : int
            Number of ids: 256 bytes, merges in the order learned, then special tokens. It comes out smaller when the corpus is so
            small that nothing is left to merge.
        pattern : str or None
            How text is cut into pieces, which tokens do not cross: ``"gpt2"``, ``"gpt4"``, a regular expression in the syntax of
            the `regex` package, or None for not at all.
        special_tokens : Sequence[str]
            Tokens with a meaning of their own, such as ``"<|endoftext|>"``.
        progress : Callable[[int, int], object], optional
            Called now and then with the number of merges learned and to learn; while texts are still read, the first is 0.

        Returns
        -------
        BPETokenizer
            The same for the same texts, however they are ordered: of equally frequent pairs the smallest pair of ids is
            merged first.

        Raises
        ------
        TokenizerError
            If `vocab_size` has no room for the bytes and the special tokens, a special token is empty or named twice, the pattern
            is no regular expression or too slow, or a text holds a lone surrogate.
        """
        model = train_model(texts, vocab_size, pattern=pattern, special_tokens=special_tokens, progress=progress)
        return cls(model)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a `tokenizer.json`, written by `save` or by Hugging Face.

        Parameters
        ----------
        path : path-like
            The file, or the folder that holds it.

        Returns
        -------
        BPETokenizer
            With the ids of the file.

        Raises
        ------
        TokenizerError
            If it is damaged, or asks for a part that is not supported: the message names it.
        OSError
            If it cannot be read.
        """
        return cls.from_document(read_json(path))

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Return the tokenizer that the JSON of a `tokenizer.json` describes.

        Parameters
        ----------
        document : object
            What `json.loads` makes of the file, or `to_document`.

        Returns
        -------
        BPETokenizer
            With the ids of the document.

        Raises
        ------
        TokenizerError
            If it asks for a part that is not supported: the message names it.
        """
        return cls(huggingface.from_document(document))

    @classmethod
    def from_tiktoken(
        cls, ranks: Mapping[bytes, int], pattern: str | None, special_tokens: Mapping[str, int] | None = None
    ) -> Self:
        """Return the tokenizer that gives the same ids as ``tiktoken.Encoding``.

        Parameters
        ----------
        ranks : Mapping[bytes, int]
            tiktoken's ``mergeable_ranks``.
        pattern : str or None
            Its ``pat_str``, or what `train` takes.
        special_tokens : Mapping[str, int], optional
            The ids of special tokens.

        Returns
        -------
        BPETokenizer
            With these ids.

        Raises
        ------
        TokenizerError
            If two tokens have one id, or the pattern is no regular expression.

        Examples
        --------
        >>> from axone.tokenizer import BPETokenizer
        >>> ranks = {bytes([byte]): byte for byte in range(256)} | {b"ow": 256, b"low": 257}
        >>> BPETokenizer.from_tiktoken(ranks, "gpt2", {"<|end|>": 258}).encode("low")
        [257]
        """
        return cls(tiktoken.from_ranks(ranks, pre_tokenizer(pattern).pattern, special_tokens or {}))

    def to_document(self) -> dict[str, object]:
        """Return the JSON of this tokenizer's `tokenizer.json`.

        Returns
        -------
        dict[str, object]
            What `json.dumps` writes and `from_document` reads.

        Raises
        ------
        TokenizerError
            If no such file could say what the tokenizer is: ids from tiktoken with gaps between them.
        """
        return huggingface.to_document(self._model)

    def to_tiktoken(self) -> dict[bytes, int]:
        """Return the ``mergeable_ranks`` of a ``tiktoken.Encoding`` that gives the same ids.

        It also takes `pattern` as ``pat_str`` and `special_tokens`.

        Returns
        -------
        dict[bytes, int]
            The rank of each token, which is its id; special tokens have none.

        Raises
        ------
        TokenizerError
            If the ids, which are those of a loaded file, are not in the order of its merges.
        """
        return tiktoken.to_ranks(self._model)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a `tokenizer.json`, whole or not at all.

        Parameters
        ----------
        path : path-like
            The file, or an existing folder to put it in.

        Raises
        ------
        TokenizerError
            As `to_document`.
        OSError
            If it cannot be written.
        """
        write_json(path, self.to_document())

    @property
    def vocab_size(self) -> int:
        """Number of ids: one more than the largest."""
        return max(self._tokens) + 1

    @property
    def pattern(self) -> str | None:
        """The regular expression that cuts text into pieces; None for none."""
        return self._model.pattern

    @property
    def merges(self) -> list[tuple[int, int]]:
        """The pairs of ids that are joined, best first."""
        return list(self._model.merges)

    @property
    def special_tokens(self) -> dict[str, int]:
        """The ids of the special tokens."""
        return dict(self._model.special_tokens)

    def encode(self, text: str, *, allowed_special: Collection[str] | Literal["all"] = _NONE) -> list[int]:
        """Return the ids of a text.

        Parameters
        ----------
        text : str
            Any text.
        allowed_special : Collection[str] or "all"
            The special tokens that the text may spell, and which then become their ids. For text from outside keep the default:
            nobody can slip in the end of a text by writing it.

        Returns
        -------
        list[int]
            Its token ids.

        Raises
        ------
        TokenizerError
            If the text spells a special token that is not allowed, or holds a lone surrogate.
        """
        ids: list[int] = self.encode_to_array(text, allowed_special=allowed_special).tolist()
        return ids

    def encode_ordinary(self, text: str) -> list[int]:
        """Return the ids of a text, in which special tokens are spelled out like any other words.

        Parameters
        ----------
        text : str
            Any text.

        Returns
        -------
        list[int]
            Its token ids, none of them special.

        Raises
        ------
        TokenizerError
            If the text holds a lone surrogate.
        """
        check_text(text)
        ids: list[int] = self._encoder.encode(text, _NONE).tolist()
        return ids

    def encode_batch(
        self, texts: Iterable[str], *, allowed_special: Collection[str] | Literal["all"] = _NONE
    ) -> list[list[int]]:
        """Return the ids of each of several texts. New words are merged for all of them at once.

        Parameters
        ----------
        texts : Iterable[str]
            Any texts.
        allowed_special : Collection[str] or "all"
            As for `encode`.

        Returns
        -------
        list[list[int]]
            The token ids of each.

        Raises
        ------
        TokenizerError
            As for `encode`.
        """
        if isinstance(texts, str):
            raise TypeError(
                "Several texts must come as a list or another iterable, not as one str; use encode for a single text."
            )
        texts = list(texts)
        allowed = self._check_special(texts, allowed_special)
        return [ids.tolist() for ids in self._encoder.encode_batch(texts, allowed)]

    def encode_to_array(
        self, text: str, *, allowed_special: Collection[str] | Literal["all"] = _NONE
    ) -> NDArray[np.int32]:
        """Return the ids of a text as an array: for a large corpus, a fourth of a list's memory or less.

        Parameters
        ----------
        text : str
            Any text.
        allowed_special : Collection[str] or "all"
            As for `encode`.

        Returns
        -------
        ndarray of int32, shape (T,)
            Its token ids.

        Raises
        ------
        TokenizerError
            As for `encode`.
        """
        return self._encoder.encode(text, self._check_special([text], allowed_special))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids. Bytes that are no UTF-8, as half a character, become U+FFFD; `decode_bytes` keeps them.

        Parameters
        ----------
        ids : Iterable[int]
            Token ids: a list, an integer array, a generator.

        Returns
        -------
        str
            Their text.

        Raises
        ------
        TokenizerError
            If an id is not in the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """Return the bytes of ids.

        Parameters
        ----------
        ids : Iterable[int]
            As for `decode`.

        Returns
        -------
        bytes
            What their tokens spell, UTF-8 or not.

        Raises
        ------
        TokenizerError
            If an id is not in the vocabulary.
        """
        try:
            return b"".join(map(self._tokens.__getitem__, ids.tolist() if isinstance(ids, np.ndarray) else ids))
        except KeyError as error:
            raise TokenizerError(
                f"Token ids must be in the vocabulary, 0 to {self.vocab_size - 1}, but {error} came."
            ) from None

    def stream_decoder(self) -> StreamDecoder:
        """Return a decoder for ids that arrive one by one.

        Returns
        -------
        StreamDecoder
            It never shows half a character.
        """
        return ByteStreamDecoder(self.decode_bytes)

    def __repr__(self) -> str:
        return f"BPETokenizer({self.vocab_size} tokens, {len(self._model.special_tokens)} of them special)"

    def _check_special(self, texts: Sequence[str], allowed_special: Collection[str] | Literal["all"]) -> frozenset[str]:
        """Return the special tokens that are allowed, having found no others in the texts."""
        special = frozenset(self._model.special_tokens)
        if isinstance(allowed_special, str) and allowed_special != "all":
            raise TokenizerError(f'allowed_special must be a set of special tokens or "all", not {allowed_special!r}.')
        allowed = special if allowed_special == "all" else special.intersection(allowed_special)
        forbidden = matcher(special - allowed)
        for text in texts:
            check_text(text)
            if forbidden is not None and (found := forbidden.search(text)):
                raise TokenizerError(
                    f"The text spells the special token {found.group()!r} at position {found.start()}; pass it in "
                    "allowed_special to encode it as such, or use encode_ordinary to spell it out."
                )
        return allowed
