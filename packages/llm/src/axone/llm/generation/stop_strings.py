"""StopStrings: text that arrives in pieces, up to the first stop string."""

from collections.abc import Sequence


class StopStrings:
    """Passes text on until a stop string arrives, and holds back text that may become one.

    Parameters
    ----------
    stop : sequence of str
        None of them empty.

    Attributes
    ----------
    stopped : bool
        Whether one has arrived.

    Raises
    ------
    TypeError
        If it is one string.
    ValueError
        If one is empty.

    Examples
    --------
    >>> from axone.llm.generation.stop_strings import StopStrings
    >>> text = StopStrings(["END"])
    >>> [text.push(piece) for piece in ("abE", "Nde", "fEN", "D g")], text.stopped
    (['ab', 'ENde', 'f', ''], True)
    """

    def __init__(self, stop: Sequence[str]) -> None:
        if isinstance(stop, str):
            raise TypeError(f"stop ({stop!r:.60}) must be a list of strings: write [{stop!r:.60}]")
        given: object = stop
        if not isinstance(given, Sequence) or not all(isinstance(text, str) for text in given):
            raise TypeError(f"stop ({stop!r:.60}) must be a list of strings")
        if not all(stop):
            raise ValueError(f"stop ({stop!r:.60}) must not hold an empty string")
        self._stop = list(stop)
        self._held = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """Take a piece, and return the text that can be passed on."""
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
        """Return the text that was held back, at the end."""
        rest, self._held = self._held, ""
        return rest

    def _longest_beginning(self) -> int:
        """Return the length of the longest end of the text that begins a stop string."""
        lengths = (
            length
            for stop in self._stop
            for length in range(min(len(stop) - 1, len(self._held)), 0, -1)
            if self._held.endswith(stop[:length])
        )
        return max(lengths, default=0)
