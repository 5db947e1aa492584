"""Roles of special tokens: begin and end of a text, unknown text, padding; read from files and written to them.

`tokenizer.json` defines the roles only by its post-processor, the template of the tokens around a text. The names of
the tokens are in `tokenizer_config.json`, whose ``add_bos_token`` and ``add_eos_token`` replace the template if
present, as in transformers.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from axone.tokenizer.errors import TokenizerError
from axone.tokenizer.files import CONFIG_NAME, Section, brief, is_id, is_text


@dataclass(frozen=True)
class SpecialRoles:
    """Ids of the special tokens with a role, and whether a model expects them around a text.

    Parameters
    ----------
    bos_token_id, eos_token_id, unk_token_id, pad_token_id : int or None
        The tokens for the begin and the end of a text, for unknown text and for padding.
    add_bos_token, add_eos_token : bool
        Whether the model expects the token before or after a text.

    Raises
    ------
    TokenizerError
        If a token that the model expects is None.
    """

    bos_token_id: int | None = None
    eos_token_id: int | None = None
    unk_token_id: int | None = None
    pad_token_id: int | None = None
    add_bos_token: bool = False
    add_eos_token: bool = False

    def __post_init__(self) -> None:
        for name, id, added in (
            ("bos", self.bos_token_id, self.add_bos_token),
            ("eos", self.eos_token_id, self.add_eos_token),
        ):
            if added and id is None:
                raise TokenizerError(f"add_{name}_token is true, but {name}_token_id is missing")

    def check(self, ids: Collection[int]) -> None:
        """Check that each id has a token.

        Raises
        ------
        TokenizerError
            If one has not.
        """
        for name, id in self.named().items():
            if id not in ids:
                raise TokenizerError(f"{name}_id ({id}) has no token: it must be in the vocabulary")

    def named(self) -> dict[str, int]:
        """Return the ids that are not None under the names of `tokenizer_config.json`."""
        roles = {
            "bos_token": self.bos_token_id,
            "eos_token": self.eos_token_id,
            "unk_token": self.unk_token_id,
            "pad_token": self.pad_token_id,
        }
        return {name: id for name, id in roles.items() if id is not None}


class Template(NamedTuple):
    """Ids of the special token before and after a text in a post-processor; None for no token."""

    before: int | None = None
    after: int | None = None


def read_roles(config: object, ids: Mapping[str, int], template: Template, unknown: str | None) -> SpecialRoles:
    """Read the roles from a parsed `tokenizer_config.json`, or from a template if there is none.

    Parameters
    ----------
    config : object
        The parsed file; None if there is no such file.
    ids : mapping of str to int
        The ids of all tokens, ordinary ones included.
    template : Template
        The special tokens of the post-processor.
    unknown : str or None
        The unknown token of `tokenizer.json`.

    Raises
    ------
    TokenizerError
        If a begin or end token is not in the vocabulary.
    """
    fields = {} if config is None else config
    if not isinstance(fields, dict):
        raise TokenizerError(f"{CONFIG_NAME} must be a JSON object, not {brief(fields)}")
    if unknown is not None and unknown not in ids:
        raise TokenizerError(f"tokenizer.json.model.unk_token ({brief(unknown)}) is not in the vocabulary")
    found: dict[str, int | None] = {}
    for name in ("bos_token", "eos_token", "unk_token", "pad_token"):
        token = fields.get(name)
        if isinstance(token, dict):
            token = token.get("content")
        if token is not None and not isinstance(token, str):
            raise TokenizerError(f"{CONFIG_NAME}.{name} ({brief(token)}) must be a token or null")
        found[name] = None if token is None else ids.get(token)
        if token is not None and found[name] is None and name in {"bos_token", "eos_token"}:
            raise TokenizerError(f"{CONFIG_NAME}.{name} ({brief(token)}) is not in the vocabulary")
    bos = template.before if found["bos_token"] is None else found["bos_token"]
    eos = template.after if found["eos_token"] is None else found["eos_token"]
    if fields.keys() & {"add_bos_token", "add_eos_token"}:
        add_bos, add_eos = fields.get("add_bos_token") is True, fields.get("add_eos_token") is True
    else:
        add_bos, add_eos = template.before is not None, template.after is not None
        if (add_bos and bos != template.before) or (add_eos and eos != template.after):
            raise TokenizerError(f"tokens of the post-processor and of {CONFIG_NAME} differ: they must be the same")
    return SpecialRoles(
        bos_token_id=bos,
        eos_token_id=eos,
        unk_token_id=ids.get(unknown) if unknown is not None else found["unk_token"],
        pad_token_id=found["pad_token"],
        add_bos_token=add_bos and bos is not None,
        add_eos_token=add_eos and eos is not None,
    )


def tokenizer_config(roles: SpecialRoles, names: Mapping[int, str]) -> dict[str, object]:
    """Return the content of the `tokenizer_config.json` with which transformers reads `tokenizer.json` unchanged.

    Without ``tokenizer_class`` transformers may build another tokenizer from the vocabulary. A clean-up of spaces
    would delete spaces before punctuation.
    """
    config: dict[str, object] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    config |= {name: names[id] for name, id in roles.named().items()}
    if roles.bos_token_id is not None or roles.eos_token_id is not None:
        config |= {"add_bos_token": roles.add_bos_token, "add_eos_token": roles.add_eos_token}
    return config


def template_processor(roles: SpecialRoles, names: Mapping[int, str]) -> dict[str, object] | None:
    """Return the post-processor that adds the tokens around a text; None if there are none."""
    before = [roles.bos_token_id] if roles.add_bos_token and roles.bos_token_id is not None else []
    after = [roles.eos_token_id] if roles.add_eos_token and roles.eos_token_id is not None else []
    if not before and not after:
        return None

    def sequence(letter: str, type_id: int) -> list[dict[str, object]]:
        special: list[list[dict[str, object]]] = [
            [{"SpecialToken": {"id": names[id], "type_id": type_id}} for id in ids] for ids in (before, after)
        ]
        return [*special[0], {"Sequence": {"id": letter, "type_id": type_id}}, *special[1]]

    return {
        "type": "TemplateProcessing",
        "single": sequence("A", 0),
        "pair": [*sequence("A", 0), *sequence("B", 1)],
        "special_tokens": {
            names[id]: {"id": names[id], "ids": [id], "tokens": [names[id]]} for id in (*before, *after)
        },
    }


def read_post_processor(value: object, where: str) -> Template:
    """Check a post-processor of `tokenizer.json` and return its special tokens.

    Raises
    ------
    TokenizerError
        If it is damaged, or adds more than one token before or after a text.
    """
    if value is None:
        return Template()
    section = Section(value, where)
    kind = section.take("type")
    if kind == "Sequence":
        steps = [
            read_post_processor(step, f"{where}.processors.{i}")
            for i, step in enumerate(section.take_list("processors"))
        ]
        section.finish()
        templates = [step for step in steps if step != Template()]
        if len(templates) > 1:
            raise TokenizerError(f"{where} has several templates: only one is supported")
        return templates[0] if templates else Template()
    if kind == "TemplateProcessing":
        return _read_template(section)
    if kind != "ByteLevel":
        raise TokenizerError(
            f"{where}.type ({brief(kind)}) is not supported: it must be ByteLevel, TemplateProcessing or Sequence"
        )
    finish_byte_level(section)
    return Template()


def finish_byte_level(section: Section) -> None:
    """Check the options of a ByteLevel decoder or post-processor, which do not change ids."""
    for key in ("add_prefix_space", "trim_offsets", "use_regex"):
        section.take_flag(key, default=True)
    section.finish()


def _read_template(section: Section) -> Template:
    """Check a template and return the special tokens of its single text."""
    single = _template_items(section, "single")
    _template_items(section, "pair")
    ids: dict[str, list[int]] = {}
    for name, value in section.take_mapping("special_tokens").items():
        token = Section(value, f"{section.where}.special_tokens.{name}")
        token.take_text("id")
        numbers, texts = token.take_list("ids"), token.take_list("tokens")
        token.finish()
        if not (all(map(is_id, numbers)) and all(map(is_text, texts)) and len(numbers) == len(texts)):
            raise TokenizerError(f"{token.where} must list as many ids as tokens")
        ids[name] = [number for number in numbers if is_id(number)]
    section.finish()
    if not single:
        return Template()
    position = single.index(None) if single.count(None) == 1 else -1
    around = [
        [id for name in names if name for id in ids.get(name, [-1])]
        for names in (single[:position], single[position + 1 :])
    ]
    if position < 0 or max(map(len, around)) > 1 or [-1] in around:
        raise TokenizerError(f"{section.where}.single must be one sequence with at most one special token on each side")
    return Template(*(ids[0] if ids else None for ids in around))


def _template_items(section: Section, key: str) -> list[str | None]:
    """Check the items of a template; return the name of each special token, and None for a sequence."""
    names: list[str | None] = []
    for i, item in enumerate(section.take_list(key)):
        piece = Section(item, f"{section.where}.{key}.{i}")
        special = "SpecialToken" in piece
        inner = piece.take_section("SpecialToken" if special else "Sequence")
        piece.finish()
        name = inner.take_text("id")
        inner.take_id("type_id")
        inner.finish()
        names.append(name if special else None)
    return names
