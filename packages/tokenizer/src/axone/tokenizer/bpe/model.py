"""What a byte-level BPE tokenizer is, as data: the part that is learned and saved.

Both file formats make one of these and are made from one; the tokenizer runs it. Whatever is inconsistent is refused here, once.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from axone.tokenizer.bpe.flat import GONE, IntArray
from axone.tokenizer.protocol import TokenizerError, check_text


@dataclass(frozen=True)
class BPEModel:
    """The vocabulary, the merges and how text is prepared for them.

    Parameters
    ----------
    vocabulary : Mapping[bytes, int]
        The ids of ordinary tokens. No two tokens, special and added ones included, have the same.
    merges : Sequence[tuple[int, int]]
        The pairs of ids that are joined, best first. What a pair spells is in the vocabulary: that token it makes.
    pattern : str or None
        The regular expression of pre-tokenization; None for none.
    special_tokens : Mapping[str, int]
        Tokens with a meaning of their own, such as the end of a text: text that spells one is refused unless allowed.
    added_tokens : Mapping[str, int]
        Tokens that are found in text before pre-tokenization, always.
    whole_words : bool
        A piece that is itself in the vocabulary is that token, even if merges would not make it.
    normalization : str or None
        The Unicode normal form that text is brought to first: ``"NFC"`` or None.
    post_processor : object
        The part of that name in a `tokenizer.json`, kept so that saving gives it back. It says which special tokens Hugging Face
        puts around a text; `encode` puts none.

    Raises
    ------
    TokenizerError
        If there is no token, two tokens have one id, or a merge is not within the vocabulary or appears twice.
    """

    vocabulary: Mapping[bytes, int]
    merges: Sequence[tuple[int, int]]
    pattern: str | None
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    added_tokens: Mapping[str, int] = field(default_factory=dict)
    whole_words: bool = False
    normalization: str | None = None
    post_processor: object = None

    def __post_init__(self) -> None:
        if not self.vocabulary:
            raise TokenizerError("A vocabulary must hold at least one token, but this one is empty.")
        for text in (*self.special_tokens, *self.added_tokens):
            if not text:
                raise TokenizerError("A special token must have text, but one is empty.")
            check_text(text)
            if text in self.special_tokens and text in self.added_tokens:
                raise TokenizerError(f"The token {text!r} must be either special or added, but is both.")
        ids = [*self.vocabulary.values(), *self.special_tokens.values(), *self.added_tokens.values()]
        if b"" in self.vocabulary:
            raise TokenizerError("A token must have at least one byte, but the vocabulary holds an empty one.")
        if min(ids, default=0) < 0:
            raise TokenizerError(f"Token ids must be 0 or more, but {min(ids)} came.")
        if len(set(ids)) != len(ids):
            id = next(id for id, count in Counter(ids).items() if count > 1)
            raise TokenizerError(f"No two tokens may have the same id, but {id} appears twice.")
        if len(set(self.merges)) != len(self.merges):
            raise TokenizerError("Each pair must be merged once, but one appears twice among the merges.")
        _ = self.products  # refuses merges outside the vocabulary

    @cached_property
    def tokens(self) -> dict[int, bytes]:
        """The bytes of each id, special and added tokens included."""
        tokens = {id: token for token, id in self.vocabulary.items()}
        tokens |= {id: text.encode() for text, id in (*self.special_tokens.items(), *self.added_tokens.items())}
        return tokens

    @cached_property
    def products(self) -> list[int]:
        """The id that each merge makes."""
        ordinary = {id: token for token, id in self.vocabulary.items()}
        try:
            return [self.vocabulary[ordinary[left] + ordinary[right]] for left, right in self.merges]
        except KeyError as error:
            raise TokenizerError(f"Merges must be within the vocabulary, but {error} is not in it.") from None

    @cached_property
    def byte_ids(self) -> IntArray:
        """The id of each byte, `GONE` for one that is no token."""
        return np.array([self.vocabulary.get(bytes((byte,)), GONE) for byte in range(256)])
