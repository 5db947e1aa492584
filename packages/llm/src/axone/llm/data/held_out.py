"""HeldOutEnds: the end of each text held out, instead of the last texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from axone.llm.data.dataset import TokenDataset


class HeldOutEnds:
    r"""Texts in an order that puts their ends last: the beginnings of all texts, then the ends of all texts.

    A training on a folder then sees the beginning of every file, and its validation loss is that of every file.

    Parameters
    ----------
    texts : iterable of str
        Iterated twice in each iteration.
    validation : float, default 0.1
        The fraction of all characters that the ends have, in (0, 1). A text is cut at a line end or a space if there is
        one nearby.

    Raises
    ------
    ValueError
        If the fraction is out of its range.

    Examples
    --------
    >>> from axone.llm import HeldOutEnds, TokenDataset
    >>> from axone.tokenizer import CharTokenizer
    >>> texts = HeldOutEnds(["one two three", "four five six"], validation=0.3)
    >>> list(texts)
    ['one two', 'four five', 'three', 'six']
    >>> train, validation = texts.split(
    ...     TokenDataset.from_texts(texts, CharTokenizer.train("\n".join(texts)))
    ... )
    >>> validation.tokenizer.decode(validation.tokens.tolist())
    'three\nsix'
    """

    def __init__(self, texts: Iterable[str], validation: float = 0.1) -> None:
        if not 0 < validation < 1:
            raise ValueError(f"validation ({validation}) must be in (0, 1)")
        self._texts = texts
        self._validation = validation

    def __iter__(self) -> Iterator[str]:
        yield from (beginning for beginning, _ in self._cut() if beginning)
        yield from (end for _, end in self._cut() if end)

    def split(self, dataset: TokenDataset) -> tuple[TokenDataset, TokenDataset]:
        """Split the dataset of these texts.

        Parameters
        ----------
        dataset : TokenDataset
            The tokens of these texts, in their order.

        Returns
        -------
        train, validation : TokenDataset
        """
        beginnings = sum(1 for beginning, _ in self._cut() if beginning)
        cut = int(dataset._ends[beginnings - 1]) if beginnings else 0
        return dataset.part(0, cut), dataset.part(cut, len(dataset))

    def _cut(self) -> Iterator[tuple[str, str]]:
        """Yield the beginning and the end of each text, without the line end or the space between them."""
        seen = held = 0
        for text in self._texts:
            seen += len(text)
            wanted = min(max(round(self._validation * seen) - held, 0), len(text))
            beginning, end = _nearby_cut(text, wanted) if wanted else (text, "")
            held += len(end)
            yield beginning, end


def _nearby_cut(text: str, length: int) -> tuple[str, str]:
    """Cut off the end of a text, of that length, or of up to twice it if a line end or a space is there."""
    position = len(text) - length
    for between in ("\n", " "):
        found = text.rfind(between, max(position - length, 0), position + 1)
        if found > 0:
            return text[:found], text[found + 1 :]
    return text[:position], text[position:]
