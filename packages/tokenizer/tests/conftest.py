"""Fixtures: texts with every class of characters, trained tokenizers, and naive BPE."""

import random
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import pytest
import regex

from axone.tokenizer import BPETokenizer
from axone.tokenizer.bpe.patterns import NAMES

CORPUS = (
    "The quick brown fox jumps over the lazy dog; it's the dog's day, isn't it? They'll say we've 12345 reasons.\n"
    "    def train(self, texts: Iterable[str], vocab_size: int = 50_257) -> None:\n        return self.merge(texts)\n\n"
    "Съешь же ещё этих мягких французских булок, да выпей чаю. Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.\n"
    "色は匂へど散りぬるを 我が世誰ぞ常ならむ。天地玄黄宇宙洪荒 日月盈昃辰宿列张。 다람쥐 헌 쳇바퀴에 타고파\n"
    "नमस्ते दुनिया  สวัสดีชาวโลก  مرحبا بالعالم  שלום עולם  👋🏽👨‍👩‍👧‍👦🇫🇷 e\u0301\u0323 \r\n\t\u3000\u00a0\x85"
) * 3

# Characters of every class, white space and line ends, in short runs.
ALPHABET = [
    *"abstLREVM'\u2019.,!?_(-+1239 \n\r\t\x00\x0b\x1c\x7f\x85\xa0",
    *[
        "'s",
        "'ll",
        "'RE",
        "'ve",
        "''",
        "  ",
        "\r\n",
        "\n\n",
        "   \n",
        "the",
        " The",
        "12345",
        "\ufeff",
        "\u2028",
        "\u3000",
    ],
    *[
        "é",
        "e\u0301",
        "ß",
        "\u017f",
        "Ω",
        "я",
        "中",
        "文",
        "。",
        "ก็",
        "नि",
        "한",
        "ᄒ\u1161",
        "ع",
        "\u05d0\u05b8",
        "٣",
        "Ⅷ",
        "½",
    ],
    *[
        "😀",
        "👋🏽",
        "👨\u200d👩\u200d👧",
        "🇫🇷",
        "\U0001d538",
        "\U0001d7d8",
        "𐍈",
        "𠀀",
        "\U000e0041",
        "\U0010ffff",
        "\ue000",
        "\ufffd",
    ],
]


@pytest.fixture(scope="session")
def corpus() -> str:
    return CORPUS


@pytest.fixture(scope="session", params=["gpt2", "gpt4", r"\w+|\s|[^\w\s]+", None])
def tokenizer(request: pytest.FixtureRequest) -> BPETokenizer:
    return BPETokenizer.train(CORPUS, 600, pattern=request.param, special_tokens=["<|end|>", "<|end", "|>"])


@pytest.fixture
def random_text() -> Callable[[random.Random, int], str]:
    """Function that returns a random text of at most `size` parts, from ALPHABET or from all code points."""

    def make(rng: random.Random, size: int) -> str:
        count = rng.randint(0, size)
        if rng.random() < 0.7:
            return "".join(rng.choices(ALPHABET, k=count))
        points = (rng.choice((0x80, 0x800, 0x10000, 0x110000)) for _ in range(count))
        return "".join(chr(point) for limit in points if not 0xD800 <= (point := rng.randrange(limit)) < 0xE000)

    return make


@pytest.fixture
def assigned() -> Callable[[str], bool]:
    """Function that returns whether all characters were assigned in Unicode 3.2."""
    return lambda text: all(unicodedata.ucd_3_2_0.category(character) != "Cn" for character in text)


@pytest.fixture
def pieces_of() -> Callable[[str, str | None], list[str]]:
    """Function that splits a text by the regular expression itself, with the text between matches."""

    def cut(text: str, pattern: str | None) -> list[str]:
        if pattern is None:
            return [text] if text else []
        pieces, start = [], 0
        for match in regex.finditer(NAMES.get(pattern, pattern), text):
            pieces += [text[start : match.start()], match.group()]
            start = match.end()
        return [piece for piece in (*pieces, text[start:]) if piece]

    return cut


@pytest.fixture
def naive_merges() -> Callable[[Mapping[str, int], int], list[tuple[int, int]]]:
    """Naive training: count all pairs, merge the most frequent one, repeat."""

    def learn(counts: Mapping[str, int], number: int) -> list[tuple[int, int]]:
        words = {word: list(word.encode()) for word in counts}
        merges: list[tuple[int, int]] = []
        while len(merges) < number:
            pairs: Counter[tuple[int, int]] = Counter()
            for word, ids in words.items():
                for pair in pairwise(ids):
                    pairs[pair] += counts[word]
            if not pairs:
                break
            best = min(pairs, key=lambda pair: (-pairs[pair], pair))
            words = {word: joined(ids, best, 256 + len(merges)) for word, ids in words.items()}
            merges.append(best)
        return merges

    return learn


@pytest.fixture
def naive_ids() -> Callable[[Sequence[int], Mapping[tuple[int, int], tuple[int, int]]], list[int]]:
    """Naive encoding: merge the pair of lowest rank, the leftmost of equals, and repeat."""

    def encode(ids: Sequence[int], merges: Mapping[tuple[int, int], tuple[int, int]]) -> list[int]:
        ids = list(ids)
        while True:
            found = [(*merges[pair], i) for i, pair in enumerate(pairwise(ids)) if pair in merges]
            if not found:
                return ids
            _, product, i = min(found, key=lambda candidate: (candidate[0], candidate[2]))
            ids[i : i + 2] = [product]

    return encode


def joined(ids: list[int], pair: tuple[int, int], token: int) -> list[int]:
    result: list[int] = []
    i = 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == pair:
            result.append(token)
            i += 2
        else:
            result.append(ids[i])
            i += 1
    return result
