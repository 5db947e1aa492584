"""StopText: a text that comes in pieces, up to where one of some texts begins."""

from collections.abc import Sequence


class StopText:
    """Lets a text through until a stop text comes, and holds back what may yet become one.

    Parameters
    ----------
    stop : sequence of str
        None of them empty.

    Attributes
    ----------
    stopped : bool
        Whether one has come.

    Raises
    ------
    ValueError
        If one is empty.

    Examples
    --------
    >>> from axone.llm.generation.stop_strings import StopText
    >>> text = StopText(["END"])
    >>> [text.push(piece) for piece in ("abE", "Nde", "fEN", "D g")], text.stopped
    (['ab', 'ENde', 'f', ''], True)
    """

    def __init__(self, stop: Sequence[str]) -> None:
        if isinstance(stop, str) or not all(stop):
            raise ValueError(f"stop must be a list of texts that are not empty, and is {stop!r}")
        self._stop = list(stop)
        self._held = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """Take a piece, and return what can be let through."""
        self._held += piece
        found = [place for place in map(self._held.find, self._stop) if place >= 0]
        if found:
            self.stopped = True
            ready, self._held = self._held[: min(found)], ""
        else:
            cut = len(self._held) - self._longest_beginning()
            ready, self._held = self._held[:cut], self._held[cut:]
        return ready

    def flush(self) -> str:
        """Return what was held back, at the end."""
        rest, self._held = self._held, ""
        return rest

    def _longest_beginning(self) -> int:
        """Return how long the end of the text is that begins a stop text."""
        lengths = (
            length
            for stop in self._stop
            for length in range(min(len(stop) - 1, len(self._held)), 0, -1)
            if self._held.endswith(stop[:length])
        )
        return max(lengths, default=0)
