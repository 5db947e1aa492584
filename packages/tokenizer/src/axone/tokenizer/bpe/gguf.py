"""Conversion from and to the tokenizer metadata of a GGUF file with a byte-level BPE vocabulary.

``tokenizer.ggml.pre`` names the pre-tokenization. Only names whose rules are known exactly are accepted: a wrong
guess gives wrong ids silently. `qwen2` and `command-r` include the NFC normalization of the original tokenizers,
which llama.cpp leaves out.

References
----------
.. [1] GGUF, https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
.. [2] llama.cpp, for the names of pre-tokenizers and the default of ``add_bos_token``,
   https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp
"""

from collections.abc import Mapping
from typing import NamedTuple

from axone.tokenizer.bpe.byte_alphabet import to_bytes, to_characters
from axone.tokenizer.bpe.huggingface import read_merges
from axone.tokenizer.bpe.model import BPEModel
from axone.tokenizer.bpe.patterns import GPT2, LLAMA3, QWEN2, SMOLLM
from axone.tokenizer.errors import TokenizerError
from axone.tokenizer.files import brief
from axone.tokenizer.gguf_metadata import PREFIX, Metadata, TokenType, role_metadata
from axone.tokenizer.special_roles import template_processor


class _Rules(NamedTuple):
    """Preparation of text that a name stands for."""

    pattern: str
    normalization: str | None = None
    ignore_merges: bool = False
    add_bos_token: bool = False


_LLAMA3 = _Rules(LLAMA3, ignore_merges=True, add_bos_token=True)
_RULES = {  # the first name of equal rules is the one that is written
    "gpt-2": _Rules(GPT2),
    "olmo": _Rules(GPT2),
    "mpt": _Rules(GPT2),
    "smollm": _Rules(SMOLLM),
    "starcoder": _Rules(SMOLLM),
    "refact": _Rules(SMOLLM),
    "command-r": _Rules(SMOLLM, "NFC"),
    "qwen2": _Rules(QWEN2, "NFC"),
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
}


def from_metadata(metadata: Mapping[str, object]) -> BPEModel:
    """Convert the metadata of a GGUF file to a model.

    Raises
    ------
    TokenizerError
        If it is damaged, or its pre-tokenizer is not supported.
    """
    fields = Metadata(metadata)
    name = fields.text("pre")
    if name not in _RULES:
        raise TokenizerError(f"{PREFIX}pre ({brief(name)}) is not supported: it must be one of {', '.join(_RULES)}")
    rules = _RULES[name]
    if fields.flag("add_space_prefix"):
        raise TokenizerError(f"{PREFIX}add_space_prefix (true) is not supported with a byte-level vocabulary")
    spelled: dict[str, int] = {}
    special_tokens: dict[str, int] = {}
    added_tokens: dict[str, int] = {}
    groups = {
        TokenType.NORMAL: spelled,
        TokenType.UNKNOWN: special_tokens,
        TokenType.CONTROL: special_tokens,
        TokenType.USER_DEFINED: added_tokens,
    }
    for id, (token, type_) in enumerate(fields.tokens()):
        if type_ is TokenType.UNUSED:
            continue
        if type_ not in groups:
            raise TokenizerError(f"{PREFIX}token_type.{id} ({type_.name.lower()}) is not supported: {brief(token)}")
        groups[type_][token] = id
    try:
        vocabulary = dict(zip(to_bytes([*spelled]), spelled.values()))
    except UnicodeEncodeError:
        raise TokenizerError(
            f"{PREFIX}tokens holds a normal token that is not written in the 256 characters that represent bytes"
        ) from None
    roles = fields.roles(add_bos_token=rules.add_bos_token)
    names = {id: text for text, id in (spelled | special_tokens | added_tokens).items()}
    return BPEModel(
        vocabulary=vocabulary,
        merges=read_merges(fields.sequence("merges"), spelled, f"{PREFIX}merges"),
        pattern=rules.pattern,
        special_tokens=special_tokens,
        added_tokens=added_tokens,
        ignore_merges=rules.ignore_merges,
        normalization=rules.normalization,
        post_processor=template_processor(roles, names),
        roles=roles,
    )


def to_metadata(model: BPEModel) -> dict[str, object]:
    """Convert a model to the metadata of a GGUF file.

    Raises
    ------
    TokenizerError
        If no name stands for its pre-tokenization.
    """
    names = [
        name
        for name, rules in _RULES.items()
        if (rules.pattern, rules.normalization) == (model.pattern, model.normalization)
        and (rules.ignore_merges or not model.ignore_merges)
    ]
    if not names:
        raise TokenizerError(
            f"pattern ({brief(model.pattern)}) with normalization {brief(model.normalization)} has no name in "
            "GGUF: only "
            "those of GPT-2, SmolLM, Qwen2 and Llama-3 can be written"
        )
    size = max(model.tokens) + 1
    tokens = [f"[PAD{id}]" for id in range(size)]
    types = [TokenType.UNUSED] * size
    ordinary = {to_characters(token): id for token, id in model.vocabulary.items()}
    for group, type_ in (
        (ordinary, TokenType.NORMAL),
        (model.special_tokens, TokenType.CONTROL),
        (model.added_tokens, TokenType.USER_DEFINED),
    ):
        for text, id in group.items():
            tokens[id], types[id] = text, type_
    return {
        f"{PREFIX}model": "gpt2",
        f"{PREFIX}pre": names[0],
        f"{PREFIX}tokens": tokens,
        f"{PREFIX}token_type": [int(type_) for type_ in types],
        f"{PREFIX}merges": [f"{tokens[left]} {tokens[right]}" for left, right in model.merges],
        **role_metadata(model.roles),
    }
