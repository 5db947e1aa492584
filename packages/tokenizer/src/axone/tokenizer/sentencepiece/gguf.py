"""Conversion from and to the tokenizer metadata of a GGUF file with a SentencePiece BPE vocabulary, which has scores.

SentencePiece merges the adjacent pair whose concatenation has the highest score, the leftmost of equals. Here every
split of a token into two tokens is a merge, ordered by the score of the token, then the longest left part first.
Comparisons with the `sentencepiece` package found no difference; tokens with equal scores are only accepted if they
consist of spaces, as in Llama-2 and Mistral.

References
----------
.. [1] GGUF, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
.. [2] sentencepiece, https://github.com/google/sentencepiece
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from axone.tokenizer.errors import TokenizerError
from axone.tokenizer.files import brief
from axone.tokenizer.gguf_metadata import PREFIX, Metadata, TokenType, role_metadata
from axone.tokenizer.sentencepiece.model import SPACE, SentencePieceModel, byte_name
from axone.tokenizer.special_roles import template_processor


def from_metadata(metadata: Mapping[str, object]) -> SentencePieceModel:
    """Convert the metadata of a GGUF file to a model.

    Raises
    ------
    TokenizerError
        If it is damaged, or its vocabulary is not a BPE vocabulary with byte fallback.
    """
    fields = Metadata(metadata)
    vocabulary: dict[str, int] = {}
    bytes_: dict[str, int] = {}
    special_tokens: dict[str, int] = {}
    added_tokens: dict[str, int] = {}
    groups = {
        TokenType.NORMAL: vocabulary,
        TokenType.BYTE: bytes_,
        TokenType.UNKNOWN: special_tokens,
        TokenType.CONTROL: special_tokens,
        TokenType.USER_DEFINED: added_tokens,
        TokenType.UNUSED: {},
    }
    for id, (token, type_) in enumerate(fields.tokens()):
        groups[type_][token] = id
    missing = [name for name in map(byte_name, range(256)) if name not in bytes_]
    if missing or len(bytes_) > 256:
        raise TokenizerError(f"{PREFIX}tokens must hold the 256 byte tokens, from <0x00> to <0xFF>")
    remove = fields.flag("remove_extra_whitespaces")
    if remove:
        raise TokenizerError(f"{PREFIX}remove_extra_whitespaces (true) is not supported")
    scores = _scores(fields)
    roles = fields.roles(add_bos_token=True)
    prepend = fields.flag("add_space_prefix") is not False
    model = SentencePieceModel(
        vocabulary=vocabulary,
        byte_ids=[bytes_[byte_name(byte)] for byte in range(256)],
        merges=_merges(vocabulary, scores),
        prefix="prepend" if prepend else "never",
        strip_prefix=prepend,
        special_tokens=special_tokens,
        added_tokens=added_tokens,
        roles=roles,
        scores=scores,
    )
    return replace(model, post_processor=template_processor(roles, model.names))


def to_metadata(model: SentencePieceModel) -> dict[str, object]:
    """Convert a model to the metadata of a GGUF file.

    Raises
    ------
    TokenizerError
        If the scores are not known: merges of a `tokenizer.json` may have an order that no scores give.
    """
    if not model.scores or model.prefix not in {"prepend", "never"}:
        raise TokenizerError(
            "scores of this vocabulary are not known: a GGUF file can only be written for a SentencePiece "
            "vocabulary that "
            "was read from one"
        )
    size = len(model.scores)
    tokens, types = [f"[PAD{id}]" for id in range(size)], [TokenType.UNUSED] * size
    groups: list[tuple[Mapping[str, int], TokenType]] = [
        (model.vocabulary, TokenType.NORMAL),
        (model.special_tokens, TokenType.CONTROL),
        (model.added_tokens, TokenType.USER_DEFINED),
        ({byte_name(byte): id for byte, id in enumerate(model.byte_ids)}, TokenType.BYTE),
    ]
    for group, type_ in groups:
        for text, id in group.items():
            tokens[id], types[id] = text, type_
    if model.roles.unk_token_id is not None:
        types[model.roles.unk_token_id] = TokenType.UNKNOWN
    return {
        f"{PREFIX}model": "llama",
        f"{PREFIX}pre": "default",
        f"{PREFIX}tokens": tokens,
        f"{PREFIX}scores": list(model.scores),
        f"{PREFIX}token_type": [int(type_) for type_ in types],
        f"{PREFIX}add_space_prefix": model.prefix == "prepend",
        **role_metadata(model.roles),
    }


def _scores(fields: Metadata) -> list[float]:
    """Return the score of each id."""
    scores: list[float] = []
    for id, score in enumerate(fields.sequence("scores")):
        if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score):
            raise TokenizerError(f"{PREFIX}scores.{id} ({brief(score)}) must be a finite number")
        scores.append(float(score))
    if len(scores) != len(fields.sequence("tokens")):
        raise TokenizerError(f"{PREFIX}scores has {len(scores)} values for {len(fields.sequence('tokens'))} tokens")
    return scores


def _merges(vocabulary: Mapping[str, int], scores: Sequence[float]) -> list[tuple[int, int]]:
    """Return all splits of tokens into two tokens, highest score of the token first, then longest left part first."""
    missing = {character for token in vocabulary for character in token} - vocabulary.keys()
    if missing:
        raise TokenizerError(f"{PREFIX}tokens must hold every character of its tokens, but lacks {brief(min(missing))}")
    owners: dict[float, str] = {}
    splits: list[tuple[float, int, int, int]] = []
    for token, id in vocabulary.items():
        halves = [(token[:i], token[i:]) for i in range(1, len(token))]
        pairs = [(left, right) for left, right in halves if left in vocabulary and right in vocabulary]
        owner = owners.setdefault(scores[id], token) if pairs else token
        if owner != token and (owner + token).strip(SPACE):
            raise TokenizerError(f"{PREFIX}scores of {brief(owner)} and {brief(token)} are equal: they must differ")
        splits += [(-scores[id], -len(left), vocabulary[left], vocabulary[right]) for left, right in pairs]
    splits.sort()
    return [(left, right) for _, _, left, right in splits]
