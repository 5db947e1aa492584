"""What the apps share: exit codes, and errors and warnings as one sentence instead of a traceback."""

import contextlib
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TextIO

SUCCESS, USER_ERROR, INTERRUPTED, TERMINATED = 0, 2, 130, 143


class UserError(Exception):
    """What the user can put right; its message is the last line that the app prints."""


def run(main: Callable[[], int]) -> int:
    """Run an app and return its exit code."""
    from axone.llm import AxoneError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows a question mark
            stream.reconfigure(errors="replace")
    warnings.showwarning = _show
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SUCCESS
    except (UserError, AxoneError, ChildProcessError) as error:
        message = str(error)
    except MemoryError:
        message = "there is not enough memory: choose a smaller model, a shorter context or a smaller batch"
    except OSError as error:
        message = f"{error.filename or 'the disk'}: {error.strerror or error}"
    else:
        return status
    say("error", message)
    return USER_ERROR


def _leave(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("\ninterrupted", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _leave  # from here on, for Ctrl-C while the rest of an app is imported and `run` has not begun


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,  # noqa: ARG001 - as `warnings` calls it
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    if issubclass(category, UserWarning):  # NumPy's, of numbers that overflow, come before an error that says more
        say("warning", str(message))


def say(kind: str, message: str) -> None:
    """Print a sentence on standard error, as one line."""
    print(f"{Path(sys.argv[0]).name}: {kind}: {' '.join(message.split())}", file=sys.stderr)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name the file where an error in the block does not, as that of a full disk."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def in_options(message: str, names: Iterable[str]) -> str:
    """Return a sentence of the library with the options where it names the arguments that they set."""
    arguments = [name.replace("-", "_") for name in names]
    unmistakable = [name for name in arguments if "_" in name]
    pattern = rf"^({'|'.join(arguments)})\b|\b({'|'.join(unmistakable)})\b"
    return re.sub(pattern, lambda found: "--" + found[0].replace("_", "-"), message)
