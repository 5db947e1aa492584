"""Console of the commands: exit status, errors and warnings as one sentence, and standard streams that are closed or break."""

import contextlib
import errno
import io
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from axone.cli.invocation import as_called, program

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUCCESS, OUTPUT_LOST, USER_ERROR, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
EXIT_STATUS = {
    "finished": SUCCESS,
    "stopped": SUCCESS,
    "interrupted": INTERRUPTED,
    "terminated": TERMINATED,
}
NO_MEMORY = "memory is exhausted: choose a smaller model, a shorter context or a smaller batch"


class UserError(Exception):
    """An error that the user can mend; its message is the last line on standard error."""


def exit_status(main: Callable[[], int]) -> int:
    """Call a main function and return its exit status; print an error as one sentence on standard error."""
    status = _status(main)
    try:
        sys.stdout.flush()
    except OSError as error:
        discard(sys.stdout)
        if status == SUCCESS and not isinstance(error, BrokenPipeError):
            report("error", f"standard output: {error.strerror}")
            return USER_ERROR
    return status


def _status(main: Callable[[], int]) -> int:
    try:
        open_closed_streams()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks a character shows a question mark
                stream.reconfigure(errors="replace")
        warnings.showwarning = _show
        # Pictures are saved without a backend, and matplotlib cannot be imported with the name of one that it lacks.
        os.environ.pop("MPLBACKEND", None)
        return main()
    except KeyboardInterrupt:
        say("\ninterrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a text ended, as `head` does
        discard(sys.stdout)
        return SUCCESS
    except Exception as error:
        message = sentence(error)
        if message is None:
            raise
        report("error", message)
        return USER_ERROR


def sentence(error: Exception) -> str | None:
    """Return the message of an error that the user can mend; None of any other."""
    library = sys.modules.get("axone.llm")  # only a command that imported it raises its errors
    if isinstance(error, UserError) or (library is not None and isinstance(error, library.AxoneError)):
        return str(error)
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return NO_MEMORY
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return f"{error.filename}: {reason}" if error.filename else reason
    return None


def say(text: str) -> None:
    """Print a line on standard error, unless standard error is broken."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def report(kind: str, message: str) -> None:
    """Print a message on standard error as one line, after the name of the program."""
    say(f"{program()}: {kind}: {' '.join(message.split())}")


def _show(
    message: Warning | str,
    category: type[Warning],
    filename: str,  # noqa: ARG001 - the signature of warnings.showwarning
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    if issubclass(category, UserWarning):  # NumPy's warnings of overflow precede an error that says more
        report("warning", str(message))


def open_closed_streams() -> None:
    """Open the null device for closed standard streams, so that no file of the app gets their descriptors.

    Raises
    ------
    UserError
        If standard output is closed: a text would be lost.
    """
    closed = sys.stdout is None
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # ascending: open takes the lowest descriptor
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - open until the end
    if closed:
        raise UserError("standard output is closed: redirect it, for example to a file")


def discard(stream: TextIO) -> None:
    """Redirect a broken stream to the null device, so that flushing it at exit does not fail again."""
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as null:
        os.dup2(null.fileno(), stream.fileno())


class ReportStream(io.TextIOBase):
    """Text stream that discards text after the first failed write.

    Parameters
    ----------
    stream : text file

    Attributes
    ----------
    error : OSError or None
        The first error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        self._try(self._stream.flush)

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Return the stream's descriptor."""
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # io declares an attribute
        """The stream's encoding."""
        return self._stream.encoding

    def _try(self, action: Callable[[], object]) -> None:
        if self.error is None:
            try:
                action()
            except OSError as error:
                self.error = error
                discard(self._stream)


@contextlib.contextmanager
def unbreakable_output() -> Iterator[list[ReportStream]]:
    """Replace standard output and standard error by streams whose failure does not end a training."""
    before = sys.stdout, sys.stderr
    streams = [ReportStream(stream) for stream in before]
    sys.stdout, sys.stderr = (cast("TextIO", stream) for stream in streams)
    try:
        yield streams
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Add the path to an OSError of the block that does not name a file, such as that of a full disk."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def save_picture(figure: "Figure", path: Path, *, dpi: int) -> None:
    """Write a picture, in place of a file or a link of that name."""
    picture = io.BytesIO()
    with writing(path):
        figure.savefig(picture, dpi=dpi, format=path.suffix[1:])
    save(path, picture.getvalue())


def save(path: Path, content: bytes) -> None:
    """Write a file beside its path and rename it into place, in place of a file or a link of that name."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            temporary.write_bytes(content)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def in_options(message: str, names: Iterable[str] = ()) -> str:
    """Return a message of the library with the names of arguments replaced by those of options."""
    message = message.replace("with unknown='<unk>'", f"with {as_called('axone train')} --tokenizer bpe")
    arguments = [name.replace("-", "_") for name in names]
    if not arguments:
        return message
    unmistakable = [name for name in arguments if "_" in name]
    pattern = rf"^({'|'.join(arguments)})\b" + (rf"|\b({'|'.join(unmistakable)})\b" if unmistakable else "")
    return re.sub(pattern, lambda found: "--" + found[0].replace("_", "-"), message)
