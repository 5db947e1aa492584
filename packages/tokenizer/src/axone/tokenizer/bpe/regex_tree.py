"""Syntax tree of a regular expression, and its canonical spelling."""

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

CONTROLS = {"t": "\t", "n": "\n", "r": "\r", "f": "\f", "v": "\v"}
_CLASS = re.compile(r"\\[sSdD]|\\[pP]\{\w+\}")
_LOOKAROUNDS = ("?=", "?!", "?<=", "?<!")


@dataclass(frozen=True)
class Text:
    """One literal character."""

    character: str


@dataclass(frozen=True)
class Set:
    """One character of a set, whose members are spelled canonically."""

    members: str
    negated: bool = False


@dataclass(frozen=True)
class AnyCharacter:
    """Any character except a line feed."""


@dataclass(frozen=True)
class Anchor:
    """Start (``"A"``) or end (``"z"``) of the text."""

    kind: Literal["A", "z"]


@dataclass(frozen=True)
class Repeat:
    """Repetition of an item: greedy (mode ``""``), lazy (``"?"``) or possessive (``"+"``)."""

    item: "Node"
    least: int
    most: int | None
    mode: str = ""


@dataclass(frozen=True)
class Group:
    """Group without capture, atomic group, or lookaround."""

    kind: str
    options: tuple["Items", ...]


Node: TypeAlias = Text | Set | AnyCharacter | Anchor | Repeat | Group
Items: TypeAlias = tuple[Node, ...]


def spell(items: Items, end: str = r"\z") -> str:
    r"""Return the canonical spelling of a sequence; `end` spells the end of the text."""
    return "".join(_spell(item, end) for item in items)


def _spell(node: Node, end: str) -> str:
    match node:
        case Text(character):
            return f"\\{character}" if character in "\\.+*?()|[]{}^$" else _spell_control(character)
        case Set(members, negated):
            return members if not negated and _CLASS.fullmatch(members) else bracketed(node)
        case AnyCharacter():
            return "."
        case Anchor(kind):
            return r"\A" if kind == "A" else end
        case Group(kind, options):
            return f"({kind}{'|'.join(spell(option, end) for option in options)})"
        case Repeat(item, least, most, mode):
            spelled = f"(?:{_spell(item, end)})" if isinstance(item, Repeat) else _spell(item, end)
            short = {(0, 1): "?", (0, None): "*", (1, None): "+"}.get((least, most))
            if short is not None:
                return spelled + short + mode
            bounds = f"{{{least}}}" if least == most else f"{{{least},{'' if most is None else most}}}"
            return f"(?>{spelled}{bounds})" if mode == "+" else spelled + bounds + mode


def bracketed(node: Set) -> str:
    """Return the spelling of a set in brackets."""
    return f"[{'^' * node.negated}{node.members}]"


def spell_member(character: str) -> str:
    """Return the spelling of a character in a set."""
    return f"\\{character}" if character in "\\[]^-&~|" else _spell_control(character)


def _spell_control(character: str) -> str:
    """Return a character, or its escape if it is a control or format character."""
    for letter, value in CONTROLS.items():
        if character == value:
            return f"\\{letter}"
    point = ord(character)
    invisible = point < 0x20 or 0x7F <= point < 0xA0 or 0x200B <= point < 0x2010 or 0x2028 <= point < 0x2030
    return f"\\u{point:04x}" if invisible or point == 0xFEFF else character


def class_names(node: Set) -> list[str]:
    """Return the names of all classes in a set and in its nested sets. A class and its complement have one name."""
    names = re.findall(r"\\[pP]\{(\w+)\}|\\([sSdD])", node.members.replace("\\\\", ""))
    return [name or {"s": "White_Space", "d": "Nd"}[letter.lower()] for name, letter in names]


def is_single(node: Node) -> bool:
    """Return whether a node matches exactly one character, by its value or by a set."""
    return isinstance(node, Text | Set)


def letters(node: Node) -> set[str]:
    """Return the ASCII letters of a node that was parsed without case."""
    return {character for character in spell((node,)) if character.isascii() and character.isalpha()}


def can_be_empty(node: Node) -> bool:
    """Return whether a node can match the empty string."""
    match node:
        case Repeat(item, least):
            return least == 0 or can_be_empty(item)
        case Group(kind, options):
            return kind in _LOOKAROUNDS or any(all(map(can_be_empty, option)) for option in options)
    return isinstance(node, Anchor)


def has_width(node: Node) -> bool:
    """Return whether a node is neither an anchor nor a lookaround."""
    return not (isinstance(node, Anchor) or (isinstance(node, Group) and node.kind in _LOOKAROUNDS))
