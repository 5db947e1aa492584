"""Parser of the regular expressions that `portable_regex` accepts."""

from itertools import pairwise, product
from typing import Literal, TypeAlias

from axone.tokenizer.bpe.regex_tree import (
    CONTROLS,
    Anchor,
    AnyCharacter,
    Group,
    Items,
    Node,
    Repeat,
    Set,
    Text,
    bracketed,
    can_be_empty,
    class_names,
    has_width,
    is_single,
    letters,
    spell_member,
)
from axone.tokenizer.errors import TokenizerError

Dialect: TypeAlias = Literal["oniguruma", "fancy-regex", "regex"]
DIALECTS: tuple[Dialect, ...] = ("oniguruma", "fancy-regex", "regex")

_MAX_LENGTH = 10_000  # characters of a pattern
_MAX_DEPTH = 50  # nested groups and sets
_MAX_REPEAT = 1_000  # product of nested bounds: engines expand them, `a{1000000000}` took 12 GB to compile
_MAX_SIZE = 20_000  # single-character items with all bounds multiplied out

_CATEGORIES = (
    "L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp C Cc Cf Co Cn Alphabetic"
)
_SCRIPTS = "Han Hiragana Katakana Hangul Latin Cyrillic Greek Arabic Hebrew Thai Devanagari"
_PROPERTIES = frozenset(f"{_CATEGORIES} {_SCRIPTS}".split())
_ESCAPABLE = frozenset("\\.+*?()|[]{}^$-/#&~\"'`!%,:;=@_ ")
_FOLDED = {"s": "\u017f", "k": "\u212a"}  # the characters outside ASCII that equal a letter without case
_LIGATURES = frozenset({"ss", "st", "ff", "fi", "fl"})  # Oniguruma also matches these with one character without case
_WORD = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d"  # \w of regex and fancy-regex
_ONIGURUMA_WORD = r"\p{Alphabetic}\p{M}\p{Nd}\p{Pc}"  # within sets; outside it also has six characters of Latin-1
_ONIGURUMA_OUTSIDE = "²³¹¼½¾"
_GROUPS = ("?:", "?>", "?=", "?!", "?<=", "?<!", "?i:")


class Parser:
    """Recursive-descent parser of one dialect."""

    def __init__(self, source: str, dialect: Dialect) -> None:
        self._source = source
        self._dialect = dialect
        self._position = 0
        self._depth = 0

    def parse(self) -> tuple[Items, ...]:
        """Return the alternatives of the pattern.

        Raises
        ------
        TokenizerError
            If the source is not a regular expression or is not portable.
        """
        if len(self._source) > _MAX_LENGTH:
            raise TokenizerError(f"pattern has {len(self._source)} characters: at most {_MAX_LENGTH} are allowed")
        options = self._alternation(without_case=False)
        if self._position < len(self._source):
            raise self._error("an unbalanced )")
        if any(all(map(can_be_empty, option)) for option in options):
            raise self._error("an alternative that can match the empty string")
        if sum(self._size(item, 1) for option in options for item in option) > _MAX_SIZE:
            raise self._error(f"repetitions of more than {_MAX_SIZE} characters in total")
        return options

    def _error(self, construct: str) -> TokenizerError:
        shown = repr(self._source if len(self._source) <= 80 else self._source[:77] + "...")
        return TokenizerError(
            f"pattern {shown} has {construct} near position {self._position}: it must be a regular expression that "
            "regex, Oniguruma and fancy-regex read alike"
        )

    def _peek(self, text: str) -> bool:
        return self._source.startswith(text, self._position)

    def _take(self, text: str) -> bool:
        found = self._peek(text)
        self._position += len(text) * found
        return found

    def _next(self) -> str:
        if self._position >= len(self._source):
            raise self._error("a group, set or escape without an end")
        self._position += 1
        return self._source[self._position - 1]

    def _until(self, end: str) -> str:
        """Take all characters before the next `end`, and `end`."""
        stop = self._source.find(end, self._position)
        if stop < 0:
            raise self._error(f"no {end}")
        taken, self._position = self._source[self._position : stop], stop + 1
        return taken

    def _nest(self, change: int) -> None:
        self._depth += change
        if self._depth > _MAX_DEPTH:
            raise self._error(f"more than {_MAX_DEPTH} nested groups or sets")

    def _alternation(self, *, without_case: bool) -> tuple[Items, ...]:
        options = [self._sequence(without_case=without_case)]
        while self._take("|"):
            options.append(self._sequence(without_case=without_case))
        return tuple(options)

    def _sequence(self, *, without_case: bool) -> Items:
        items: list[Node] = []
        while self._position < len(self._source) and not (self._peek("|") or self._peek(")")):
            items.append(self._quantified(self._item(items, without_case=without_case)))
        if without_case:
            found = list(map(letters, items))
            repeated = [(each, each) for item, each in zip(items, found) if isinstance(item, Repeat)]
            if any(a + b in _LIGATURES for pair in (*pairwise(found), *repeated) for a, b in product(*pair)):
                raise self._error("(?i: with letters that one engine matches with a ligature")
        return tuple(items)

    def _quantified(self, item: Node) -> Node:
        """Parse the quantifier of an item, if it has one."""
        interval = False
        least, most = 0, None
        if self._take("?"):
            most = 1
        elif self._take("+"):
            least = 1
        elif self._take("{"):
            interval, (least, most) = True, self._bounds()
        elif not self._take("*"):
            return item
        if not has_width(item):
            raise self._error("a quantifier after an anchor or a lookaround")
        if can_be_empty(item):
            raise self._error("a repetition of an item that can match the empty string")
        mode = "?" if self._take("?") else "+" if self._take("+") else ""
        if any(map(self._peek, "?*+{")):
            raise self._error("two quantifiers of one item")
        if interval and mode == "?" and least == most:
            raise self._error("the quantifier {n}?")
        if interval and mode == "+" and self._dialect == "oniguruma":
            return Repeat(Repeat(item, least, most), 1, None)
        return Repeat(item, least, most, mode)

    def _bounds(self) -> tuple[int, int | None]:
        """Parse ``n}``, ``n,}`` or ``n,m}``."""
        lower, comma, upper = self._until("}").partition(",")
        if not all(part.isascii() and part.isdigit() for part in (lower, upper or lower)):
            raise self._error("{ without bounds (write \\{ for the character)")
        if max(len(lower), len(upper)) > 9 or int(upper or lower) > _MAX_REPEAT:
            raise self._error(f"a repetition of more than {_MAX_REPEAT} times")
        least, most = int(lower), int(upper) if upper else None if comma else int(lower)
        if most is not None and (most < least or most == 0):
            raise self._error("bounds that are zero or not ascending")
        return least, most

    def _item(self, before: list[Node], *, without_case: bool) -> Node:
        """Parse one item without its quantifier."""
        character = self._next()
        if character == "(":
            return self._group(without_case=without_case)
        if character == "[":
            return self._set(without_case=without_case)
        if character == "\\":
            item = self._escape()
        elif character == ".":
            item = AnyCharacter()
        elif character in "^$":
            item = self._line_anchor(character, before)
        elif character in "?*+{}]":
            raise self._error(f"{character} without a backslash")
        else:
            item = Text(character)
        return self._without_case(item) if without_case else item

    def _line_anchor(self, character: str, before: list[Node]) -> Node:
        if character == "$" and before and before[-1] in {Repeat(Set(r"\s"), least, None, "+") for least in (0, 1)}:
            return Anchor("z")  # \s++ has taken all line feeds, so that $ can only be the end of the text
        if self._dialect == "fancy-regex":
            return Anchor("A" if character == "^" else "z")
        raise self._error(f"{character} (write \\A or \\z for the start or the end of the text)")

    def _group(self, *, without_case: bool) -> Node:
        self._nest(1)
        kind = next(filter(self._take, _GROUPS), "?:")
        if self._peek("?") or self._peek("*"):
            raise self._error(f"the group ({self._source[self._position : self._position + 3]}")
        if kind == "?i:":
            kind, without_case = "?:", True
        options = self._alternation(without_case=without_case)
        if not self._take(")"):
            raise self._error("an unbalanced (")
        self._nest(-1)
        if kind in {"?<=", "?<!"} and not all(len(option) == 1 and is_single(option[0]) for option in options):
            raise self._error("a lookbehind of more or less than one character")
        return Group(kind, options)

    def _escape(self) -> Node:
        """Parse an escape outside a set, after its backslash."""
        for anchor in (Anchor("A"), Anchor("z")):
            if self._take(anchor.kind):
                return anchor
        if self._take("W"):
            return Set(self._word(in_set=False), negated=True)
        return self._escaped(in_set=False)

    def _escaped(self, *, in_set: bool) -> Text | Set:
        """Parse an escape that is also valid in a set, after its backslash."""
        character = self._next()
        if character in CONTROLS:
            return Text(CONTROLS[character])
        if character in _ESCAPABLE:
            return Text(character)
        if character in "sSdD":
            return Set(f"\\{character}")
        if character == "w":
            return Set(self._word(in_set=in_set))
        if character in "pP":
            return Set(self._property(character))
        if character in "xu":
            return Text(self._code_point(character))
        raise self._error(f"the escape \\{character}")

    def _word(self, *, in_set: bool) -> str:
        if self._dialect != "oniguruma":
            return _WORD
        return _ONIGURUMA_WORD if in_set else _ONIGURUMA_WORD + _ONIGURUMA_OUTSIDE

    def _property(self, letter: str) -> str:
        if self._take("{"):
            name = self._until("}")
        elif self._dialect == "oniguruma":
            raise self._error(f"\\{letter} without braces")
        else:
            name = self._next()
        if name not in _PROPERTIES:
            raise self._error(f"the property \\{letter}{{{name}}}")
        return f"\\{letter}{{{name}}}"

    def _code_point(self, letter: str) -> str:
        width = 2 if letter == "x" else 4
        digits = self._source[self._position : self._position + width]
        if len(digits) < width or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
            raise self._error(f"\\{letter} without {width} hexadecimal digits")
        point = int(digits, 16)
        if (letter == "x" and point >= 0x80) or 0xD800 <= point < 0xE000:
            raise self._error(f"\\{letter}{digits} (write the character itself)")
        self._position += width
        return chr(point)

    def _set(self, *, without_case: bool) -> Set:
        """Parse a set after its opening bracket."""
        self._nest(1)
        negated = self._take("^")
        if without_case and negated:
            raise self._error("(?i: with a negated set")
        parts: list[str] = []
        while not self._take("]"):
            if any(map(self._peek, ("--", "||", "~~"))):
                raise self._error("--, || or ~~ in a set (write a backslash before each character)")
            if self._take("&&"):
                if not parts or parts[-1] == "&&" or self._peek("]"):
                    raise self._error("&& without a set on both sides")
                parts.append("&&")
            else:
                parts.append(self._member(first=not parts, without_case=without_case))
        if not parts:
            raise self._error("an empty set, or ] without a backslash in a set")
        self._nest(-1)
        found = Set("".join(parts), negated)
        classes = class_names(found)
        if negated and len(set(classes)) < len(classes):
            # In `regex` a negated set that holds a class and its complement, as [^\s\S], matches everything.
            raise self._error("a negated set that holds a class twice")
        return found

    def _member(self, *, first: bool, without_case: bool) -> str:
        """Parse one member of a set: a character, a range, a class or a nested set."""
        if self._peek("[:"):
            raise self._error("a POSIX class [:...:]")
        if self._take("["):
            return bracketed(self._set(without_case=without_case))
        if self._take("\\W"):
            return bracketed(Set(self._word(in_set=True), negated=True))
        low = self._set_character(first=first)
        if isinstance(low, Text) and self._peek("-") and not self._peek("-]"):
            self._next()
            high = Text("") if self._peek("[") else self._set_character(first=True)
            if without_case or not isinstance(high, Text) or high.character < low.character:
                raise self._error("a range that is not ascending, or within (?i:")
            return f"{spell_member(low.character)}-{spell_member(high.character)}"
        member = self._without_case(low) if without_case else low
        return member.members if isinstance(member, Set) else spell_member(member.character)

    def _set_character(self, *, first: bool) -> Text | Set:
        character = self._next()
        if character == "\\":
            return self._escaped(in_set=True)
        if character == "-" and not (first or self._peek("]")):
            raise self._error("- between members of a set (write \\-)")
        return Text(character)

    def _without_case(self, item: Node) -> Text | Set:
        """Return an ASCII character without case: the set of all characters that equal it."""
        if not (isinstance(item, Text) and item.character.isascii()):
            raise self._error("(?i: with anything but ASCII characters")
        lower = item.character.lower()
        return Set(lower + lower.upper() + _FOLDED.get(lower, "")) if lower.isalpha() else item

    def _size(self, node: Node, outer: int) -> int:
        """Return the number of single-character items with all bounds multiplied out."""
        if isinstance(node, Repeat):
            outer *= max(node.least, node.most or 1)
            if outer > _MAX_REPEAT:
                raise self._error(f"nested repetitions of more than {_MAX_REPEAT} times")
            return self._size(node.item, outer)
        if isinstance(node, Group):
            return sum(self._size(item, outer) for option in node.options for item in option)
        return outer
