"""Command `axone`: one program whose commands train, sample from, inspect and convert models."""

import difflib
import importlib
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from axone.cli.console import SUCCESS, UserError, exit_status
from axone.cli.invocation import COMMANDS, MODULES, PROGRAM

__all__ = ["main", "script"]


def main(arguments: list[str] | None = None) -> int:
    """Run a command line of `axone` and return its exit status.

    Parameters
    ----------
    arguments : list of str, optional
        A command and its options; by default those of the process.
    """
    before = sys.argv
    given = before[1:] if arguments is None else arguments
    name = f"python -m {__name__}" if Path(before[0]).name == "__main__.py" else PROGRAM
    try:
        if given and given[0] in COMMANDS:
            sys.argv = [f"{name} {given[0]}", *given[1:]]
            return exit_status(lambda: _run(given[0]))
        sys.argv = [name, *given]
        return exit_status(lambda: _overview(name, given))
    finally:
        sys.argv = before


def script(command: str) -> NoReturn:
    """Run a command as a script of its own, with the options of the process, and exit with its status."""
    sys.exit(exit_status(lambda: _run(command)))


def _run(command: str) -> int:
    """Import a command and call it.

    The import takes most of a second, during which Ctrl-C must not print a traceback either.
    """
    return int(importlib.import_module(f"{__name__}.{MODULES[command]}").main())


def _overview(name: str, given: list[str]) -> int:
    """Print the help, or the version.

    Raises
    ------
    UserError
        If the first argument is not a command.
    """
    if given[:1] == ["--version"]:
        print(f"{PROGRAM} {version(PROGRAM)}")
    elif not given or given[0] in {"--help", "-h", "help"}:
        lines = "\n".join(f"  {command:12}{summary}" for command, summary in COMMANDS.items())
        print(f"usage: {name} COMMAND [options]\n\nA language model from scratch on NumPy.\n\ncommands:\n{lines}\n")
        print(f"{name} COMMAND --help explains a command. A first training takes two to four minutes: {name} train")
    else:
        similar = difflib.get_close_matches(given[0], COMMANDS, n=1)
        hint = f"did you mean {similar[0]}?" if similar else f"{name} --help lists them"
        raise UserError(f"{given[0]!r} is not a command: {hint}")
    return SUCCESS
