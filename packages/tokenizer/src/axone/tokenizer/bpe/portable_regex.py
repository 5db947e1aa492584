r"""Regular expressions with the same meaning in `regex`, in Hugging Face's Oniguruma and in tiktoken's fancy-regex.

The engines read some constructs differently: ``\p{N}{1,3}+`` is a repetition in Oniguruma and possessive in the
others, ``$`` is the end of a line, the end of the text, or the position before a final line feed, and ``\w`` differs
in eight characters. So `regex_parser` parses a pattern in the dialect of its origin. It accepts only constructs for
which comparisons with the live engines have found equal pieces, and refuses all others by name before anything is
compiled.

`to_portable` returns a pattern that all engines read the same: the source itself if its meaning does not depend on
the dialect, otherwise an equivalent spelling. `to_regex` translates a portable pattern for the package `regex`.

The Unicode versions of the engines may differ: a recently assigned character may be a letter in one engine only.

References
----------
.. [1] Oniguruma, syntax of regular expressions, https://github.com/kkos/oniguruma/blob/master/doc/RE
.. [2] fancy-regex, https://docs.rs/fancy-regex
.. [3] regex, version 1 behaviour and nested sets, https://github.com/mrabarnett/mrab-regex
"""

import functools

from axone.tokenizer.bpe.regex_parser import DIALECTS, Dialect, Parser
from axone.tokenizer.bpe.regex_tree import Items, spell
from axone.tokenizer.errors import TokenizerError


def to_portable(source: str, dialect: Dialect) -> str:
    """Return a pattern that every engine reads as the source is read in its dialect.

    Raises
    ------
    TokenizerError
        If the source is not a regular expression or has a construct that is not proven to mean the same everywhere.
    """
    options = parse(source, dialect)
    for other in DIALECTS:
        try:
            if parse(source, other) != options:
                break
        except TokenizerError:
            break
    else:
        return source
    return "|".join(map(spell, options))


def to_regex(pattern: str) -> str:
    """Translate a portable pattern for the package `regex`, whose flag ``V1`` it needs."""
    return "|".join(spell(option, end=r"\Z") for option in parse(pattern, "fancy-regex"))


@functools.lru_cache(maxsize=256)
def parse(source: str, dialect: Dialect) -> tuple[Items, ...]:
    """Parse a pattern into its alternatives."""
    return Parser(source, dialect).parse()
