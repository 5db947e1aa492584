"""Names of the commands, and the form of the user's call: `axone train`, or `uv run apps/train.py` in a clone.

Both the prefix of errors and the commands that a text tells the user to run have the form of the call.
"""

import argparse
import difflib
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

PROGRAM = "axone"
COMMANDS = {  # in the order of `axone --help`
    "train": "train a language model on a text, then sample from it",
    "sample": "write text with a trained model",
    "chat": "chat with a model that was trained for it",
    "finetune": "fine-tune a model on conversations or texts",
    "tokenize": "train a tokenizer, or show the tokens of a text",
    "attention": "draw the attention weights of a model",
    "evaluate": "measure the perplexity of a model on a text",
    "export": "write a model for transformers or llama.cpp",
    "verify": "compare a model with transformers",
    "neuron": "train a network of single neurons, and draw it",
}
# A script named tokenize.py would hide the standard library's module from all modules that import it.
MODULES = {name: "tokenize_text" if name == "tokenize" else name for name in COMMANDS}


def program() -> str:
    """Return the name that begins each error: `axone train`, or `train.py`."""
    return Path(sys.argv[0]).name


def as_called(text: str) -> str:
    """Return a text with each `axone COMMAND` in the form of the user's own call."""
    if program() in {f"{module}.py" for module in MODULES.values()}:
        return _replaced(text, lambda name: f"uv run apps/{MODULES[name]}.py")
    prefix, _, command = program().rpartition(" ")
    return _replaced(text, lambda name: f"{prefix} {name}") if command in COMMANDS else text


def _replaced(text: str, spell: Callable[[str], str]) -> str:
    return re.sub(rf"\b{PROGRAM} ({'|'.join(COMMANDS)})\b", lambda found: spell(found[1]), text)


class CommandParser(argparse.ArgumentParser):
    """Parser of one command's options.

    Parameters
    ----------
    usage, description, epilog : str
        Texts with commands as `axone COMMAND`, which are shown in the form of the user's call.
    width : int
        Column of the help texts.
    positional_option : str, optional
        Option that takes what the user may give without it, such as ``"--data"``.
    """

    def __init__(
        self,
        *,
        usage: str,
        description: str | None,
        epilog: str | None = None,
        width: int = 27,
        positional_option: str | None = None,
    ) -> None:
        super().__init__(
            prog=program(),
            usage=as_called(usage),
            description=as_called(description or ""),
            epilog=as_called(epilog or ""),
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=width),
        )
        self._positional_option = positional_option

    def parse(self, arguments: list[str] | None) -> argparse.Namespace:
        """Parse a command line; exit with status 2 and a hint if it has an unknown option or argument.

        Parameters
        ----------
        arguments : list of str, optional
            By default those of the process.
        """
        options, unknown = self.parse_known_args(arguments)
        if unknown:
            first = unknown[0].partition("=")[0]
            if first.startswith("-"):
                self.error(f"{first} is not an option: {self.hint(first)}")
            if self._positional_option is not None:
                self.error(f"{first} needs an option: write {self._positional_option} {shlex.quote(first)}")
            self.error(f"{first} is one argument too many: put a text with spaces into quotes")
        return options

    def flag(self, option: str) -> bool | None:
        """Return whether an option takes no value; None if there is no such option."""
        action = self._option_string_actions.get(option)
        return None if action is None else action.nargs == 0

    def hint(self, option: str) -> str:
        """Return the option that a misspelt one may mean, or the way to list all."""
        parsers = [
            self,
            *(p for action in self._actions if isinstance(action.choices, dict) for p in action.choices.values()),
        ]
        known = [name for parser in parsers for name in parser._option_string_actions]
        similar = difflib.get_close_matches(option, known, n=1)
        return f"did you mean {similar[0]}?" if similar else "--help lists all options"
