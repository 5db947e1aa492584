"""The metrics file: one JSON object a line for everything that training measures, which any tool can read."""

from __future__ import annotations

import json
from dataclasses import asdict
from os import PathLike
from pathlib import Path
from typing import Any, TextIO

from axone.llm.storage.atomic import write_file
from axone.llm.training.callbacks import Callback, End, Evaluation, Start, Step


class MetricsFile(Callback):
    """A file with one JSON object a line for every step, evaluation and end.

    Parameters
    ----------
    path : path
        A run that is resumed goes on in the same file, without what came after the checkpoint.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = Path(path)
        self._file: TextIO | None = None

    def on_start(self, event: Start) -> None:
        """Open the file."""
        kept = [line for line in read_metrics(self._path) if line["step"] <= event.step and line["kind"] != "end"]
        write_file(self._path, "".join(json.dumps(line) + "\n" for line in kept).encode())
        self._file = self._path.open("a", encoding="utf-8", buffering=1)  # a kill loses no line

    def on_step(self, event: Step) -> None:
        """Write a line."""
        self._write("step", event)

    def on_evaluation(self, event: Evaluation) -> None:
        """Write a line."""
        self._write("evaluation", event)

    def on_end(self, event: End) -> None:
        """Write a last line."""
        self._write("end", event)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, kind: str, event: Step | Evaluation | End) -> None:
        if self._file is not None:
            self._file.write(json.dumps({"kind": kind, **asdict(event)}, default=str) + "\n")


def read_metrics(path: str | PathLike[str]) -> list[dict[str, Any]]:
    """Return the lines of a metrics file.

    Parameters
    ----------
    path : path
        The file that `MetricsFile` writes.

    Returns
    -------
    list of dict
        Each with its ``kind``, ``"step"``, ``"evaluation"`` or ``"end"``, its ``step``, and what that event tells. None
        if there is no file; what comes after a line that was cut short or is damaged is left out.
    """
    lines: list[dict[str, Any]] = []
    try:
        written = Path(path).read_bytes()
    except FileNotFoundError:
        return lines
    for line in written.splitlines():
        try:
            content = json.loads(line.decode("utf-8"))
            lines.append({**content, "kind": str(content["kind"]), "step": int(content["step"])})
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            break
    return lines
