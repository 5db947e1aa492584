"""MetricsFile: one JSON object per line for every step, evaluation and end of a training."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any, TextIO

from axone.llm.errors import CheckpointError
from axone.llm.storage.atomic import write_file
from axone.llm.storage.regular import open_regular
from axone.llm.training.callbacks import Callback, EndEvent, EvaluationEvent, StartEvent, StepEvent

_NUMBERS = {
    "step": ("loss", "learning_rate", "gradient_norm", "seconds", "tokens_per_second"),
    "evaluation": ("loss", "bits_per_byte"),
}
"""Numbers of each kind of line."""


class MetricsFile(Callback):
    """File with one JSON object per line for every step, evaluation and end.

    Parameters
    ----------
    path : path
        A resumed run continues the file after the lines up to its checkpoint.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = Path(path).absolute()
        self._file: TextIO | None = None

    def on_start(self, event: StartEvent) -> None:
        """Open the file, without the lines of steps after the checkpoint."""
        kept = [line for line in read_metrics(self._path) if line["step"] <= event.step and line["kind"] != "end"]
        write_file(self._path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._file = self._path.open("a", encoding="utf-8", buffering=1)  # line-buffered: a kill loses no line

    def on_step(self, event: StepEvent) -> None:
        """Write the line of a step."""
        self._write("step", event)

    def on_evaluation(self, event: EvaluationEvent) -> None:
        """Write the line of an evaluation."""
        self._write("evaluation", event)

    def on_end(self, event: EndEvent) -> None:
        """Write the last line."""
        self._write("end", event)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, kind: str, event: StepEvent | EvaluationEvent | EndEvent) -> None:
        if self._file is not None:
            self._file.write(json.dumps({"kind": kind, **asdict(event)}, default=str) + "\n")


def read_metrics(path: str | PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of a metrics file up to the first damaged one.

    Parameters
    ----------
    path : path
        File of a `MetricsFile`.

    Returns
    -------
    list of dict
        Each with its ``kind`` ("step", "evaluation" or "end"), its ``step`` and the other fields of that event. Empty if
        there is no file.

    Raises
    ------
    CheckpointError
        If it cannot be read, or is not a regular file.
    """
    try:
        with open_regular(Path(path)) as file:
            content = file.read()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror or error})") from error
    lines: list[dict[str, Any]] = []
    for line in content.splitlines():
        try:
            lines.append(_checked(json.loads(line.decode("utf-8"))))
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            break
    return lines


def _checked(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line whose kind and numbers can be relied on; raise a ValueError, TypeError or KeyError otherwise."""
    kind = str(line["kind"])
    for name in _NUMBERS.get(kind, ()):
        if isinstance(line[name], (bool, str)) or not math.isfinite(line[name]):
            raise ValueError(name)
    return {**line, "kind": kind, "step": int(line["step"])}
