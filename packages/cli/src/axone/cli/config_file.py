"""Options from a TOML file: each key is the name of an option, without its hyphens in front.

::

    data = "notes"
    tokenizer = "bpe"
    vocab-size = 2048
    qk-norm = true
"""

import tomllib
from datetime import date, time
from pathlib import Path

from axone.cli.console import UserError
from axone.cli.invocation import CommandParser


def read_options(path: Path, parser: CommandParser, *, excluded: set[str]) -> list[str]:
    """Return the options of a file as a command line.

    Parameters
    ----------
    path : Path
    parser : CommandParser
        Parser that has the options.
    excluded : set of str
        Options that a file must not have, such as ``"--config"``.

    Raises
    ------
    UserError
        If the file is not TOML, or has an unknown option or a value that is neither a number, nor a text, nor a boolean.
    OSError
        If it cannot be read.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not valid UTF-8 (first bad byte at {error.start}): convert it first") from error
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not valid TOML: {error}") from error
    line: list[str] = []
    for key, value in table.items():
        option = "--" + key.replace("_", "-")
        if isinstance(value, dict):
            raise UserError(f"{path}: the table {key} must be left out: write its options without a table")
        flag = parser.flag(option)
        if flag is None:
            raise UserError(f"{path}: {key} is not an option: {parser.hint(option).replace('--', '', 1)}")
        if option in excluded:
            raise UserError(f"{path}: {key} must be given on the command line: remove it from the file")
        if isinstance(value, (list, date, time)):
            raise UserError(f"{path}: {key} must be a number, a text, true or false")
        if flag != isinstance(value, bool):
            raise UserError(f"{path}: {key} ({value}) must be {'true or false' if flag else 'a number or a text'}")
        if not flag:
            line.append(f"{option}={value}")
        elif value:
            line.append(option)
    return line
