"""Typed access to the tokenizer metadata of a GGUF file, whose keys begin with ``tokenizer.ggml.``."""

import enum
from collections.abc import Mapping, Sequence

import numpy as np

from axone.tokenizer.errors import TokenizerError
from axone.tokenizer.files import brief, is_text
from axone.tokenizer.special_roles import SpecialRoles

PREFIX = "tokenizer.ggml."
_ROLES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}


class TokenType(enum.IntEnum):
    """Values of ``tokenizer.ggml.token_type``."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Metadata:
    """Metadata of a GGUF file; each accessor checks the type of its value.

    Parameters
    ----------
    metadata : mapping of str to object
        All metadata, as Python values or NumPy arrays.
    """

    def __init__(self, metadata: Mapping[str, object]) -> None:
        self._metadata = metadata

    def text(self, name: str) -> str:
        """Return a value that must be a string."""
        value = self._metadata.get(PREFIX + name)
        if not is_text(value):
            raise TokenizerError(f"{PREFIX}{name} ({brief(value)}) must be a string")
        return value

    def flag(self, name: str) -> bool | None:
        """Return a value that must be true or false; None if it is missing."""
        value = self._metadata.get(PREFIX + name)
        if value is None or isinstance(value, bool | np.bool_):
            return None if value is None else bool(value)
        raise TokenizerError(f"{PREFIX}{name} ({brief(value)}) must be true or false")

    def sequence(self, name: str) -> Sequence[object]:
        """Return a value that must be an array."""
        value = self._metadata.get(PREFIX + name)
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not isinstance(value, list | tuple):
            raise TokenizerError(f"{PREFIX}{name} ({brief(value)}) must be an array")
        return value

    def tokens(self) -> list[tuple[str, TokenType]]:
        """Return the text and the type of each token, which must be distinct and not empty.

        A token without a known type counts as unused.
        """
        tokens, types = self.sequence("tokens"), self.sequence("token_type")
        if len(tokens) != len(types):
            raise TokenizerError(f"{PREFIX}token_type has {len(types)} values for {len(tokens)} tokens")
        texts = [token for token in tokens if is_text(token)]
        if len(texts) < len(tokens) or len(set(texts)) < len(texts) or "" in texts:
            raise TokenizerError(f"{PREFIX}tokens must be distinct, non-empty strings")
        known = {int(type_): type_ for type_ in TokenType}
        return [(text, known.get(type_, TokenType.UNUSED)) for text, type_ in zip(texts, map(_integer, types))]

    def roles(self, *, add_bos_token: bool) -> SpecialRoles:
        """Return the special tokens with a role; `add_bos_token` is the default of that key."""
        ids = {role: self._id(f"{name}_token_id") for role, name in _ROLES.items()}
        add_bos, add_eos = self.flag("add_bos_token"), self.flag("add_eos_token")
        return SpecialRoles(
            bos_token_id=ids["bos"],
            eos_token_id=ids["eos"],
            unk_token_id=ids["unk"],
            pad_token_id=ids["pad"],
            add_bos_token=(add_bos_token if add_bos is None else add_bos) and ids["bos"] is not None,
            add_eos_token=bool(add_eos) and ids["eos"] is not None,
        )

    def _id(self, name: str) -> int | None:
        value = self._metadata.get(PREFIX + name)
        return None if value is None else _integer(value)


def role_metadata(roles: SpecialRoles) -> dict[str, object]:
    """Return the metadata of the special tokens with a role."""
    ids = {"bos": roles.bos_token_id, "eos": roles.eos_token_id, "unk": roles.unk_token_id, "pad": roles.pad_token_id}
    return {
        **{f"{PREFIX}{_ROLES[role]}_token_id": id for role, id in ids.items() if id is not None},
        f"{PREFIX}add_bos_token": roles.add_bos_token,
        f"{PREFIX}add_eos_token": roles.add_eos_token,
    }


def _integer(value: object) -> int:
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        return int(value)
    raise TokenizerError(f"{PREFIX}* holds {brief(value)}, which must be an integer")
