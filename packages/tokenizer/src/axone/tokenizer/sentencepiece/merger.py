"""Merging that starts from characters, and the splitting of text at spaces."""

import re
from collections.abc import Iterator

import numpy as np

from axone.tokenizer.bpe.apply_merges import PairMerger
from axone.tokenizer.bpe.flat_words import IntArray, gather_segments
from axone.tokenizer.bpe.patterns import divide
from axone.tokenizer.bpe.piece_table import Points
from axone.tokenizer.bpe.vectorized_patterns import SEPARATOR
from axone.tokenizer.sentencepiece.model import SPACE, SentencePieceModel

_NUM_POINTS = 0x110000  # code points
_BOUNDARY = re.compile(f"(?<=[^{SPACE}]){SPACE}|{SEPARATOR}")


class CharacterMerger(PairMerger):
    """Merger whose first tokens are characters, or the bytes of characters that are not in the vocabulary.

    Parameters
    ----------
    model : SentencePieceModel
        The vocabulary and the merges.
    """

    def __init__(self, model: SentencePieceModel) -> None:
        super().__init__(np.array(model.byte_ids, dtype=np.int64), model.merges, model.products)
        self._characters = {text: id for text, id in model.vocabulary.items() if len(text) == 1}

    def merge_word(self, word: bytes) -> list[int]:
        """Return the token ids of one word."""
        return self._merge_heap([id for character in word.decode() for id in self._first_tokens(character)])

    def _first_tokens(self, character: str) -> list[int]:
        id = self._characters.get(character)
        found: list[int] = self._symbols(character.encode()).tolist() if id is None else [id]
        return found

    def _spell(self, points: Points) -> tuple[IntArray, IntArray]:
        """Return the first tokens of each character, and their number."""
        present = np.zeros(_NUM_POINTS, dtype=np.bool_)
        present[points] = True
        distinct = present.nonzero()[0]
        tokens = [self._first_tokens(chr(point)) for point in distinct.tolist()]
        lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
        symbols = np.array([id for ids in tokens for id in ids], dtype=np.int64)
        starts, counts = np.zeros((2, _NUM_POINTS), dtype=np.int64)
        starts[distinct], counts[distinct] = lengths.cumsum() - lengths, lengths
        return gather_segments(points, symbols, starts, counts), counts[points]


class SpaceSplitter:
    """Pre-tokenizer that splits before ``▁`` after another character, which no merge crosses."""

    pattern = None

    def blocks(self, text: str) -> Iterator[str]:
        """Divide where pieces begin, and between texts."""
        return divide(text, _BOUNDARY)

    def split(self, block: str, points: Points) -> IntArray:
        """Return the starts of pieces."""
        del block
        spaces = points == ord(SPACE)
        separators = points == ord(SEPARATOR)
        begins = spaces | separators
        begins[1:] &= ~(spaces[1:] & spaces[:-1])
        begins[1:] |= separators[:-1]
        begins[:1] = True
        starts: IntArray = begins.nonzero()[0]
        return starts
