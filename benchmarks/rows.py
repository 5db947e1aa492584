"""Rows of the result tables: the time or memory of Axone beside that of a peer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes
    ----------
    work, peer : str
    ours, theirs : float
        In `unit`.
    bound : float or None
        The target of ``theirs / ours``, if the project has one.
    unit : str
        "s" or "MiB".
    """

    work: str
    peer: str
    ours: float
    theirs: float
    bound: float | None = None
    unit: str = "s"

    def markdown(self) -> str:
        """Return the row in Markdown."""
        figures = " | ".join(
            f"{value * 1e3:.4g} ms" if self.unit == "s" else f"{value:.0f} MiB" for value in (self.ours, self.theirs)
        )
        bound = "" if self.bound is None else f"{self.bound:.3g}"
        return f"| {self.work} | {self.peer} | {figures} | {self.theirs / self.ours:.2f} | {bound} |"
