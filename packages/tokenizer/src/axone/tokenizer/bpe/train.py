"""Training: from texts to a model, by counting their pieces and learning merges from the counts.

How pieces are counted is known by `corpus`, how merges are learned by `learn`.

References
----------
.. [1] R. Sennrich, B. Haddow, A. Birch, "Neural Machine Translation of Rare Words with Subword Units",
   https://arxiv.org/abs/1508.07909
"""

import functools
import operator
import re
from collections.abc import Callable, Iterable, Sequence

from axone.tokenizer.bpe.corpus import count_pieces
from axone.tokenizer.bpe.learn import NUM_BYTES, learn_merges
from axone.tokenizer.bpe.model import BPEModel
from axone.tokenizer.bpe.patterns import NAMES, pre_tokenizer
from axone.tokenizer.protocol import TokenizerError


def train_model(
    texts: str | Iterable[str],
    vocab_size: int,
    *,
    pattern: str | None,
    special_tokens: Sequence[str],
    progress: Callable[[int, int], object] | None,
) -> BPEModel:
    """Learn a model from texts; see `BPETokenizer.train`."""
    names: Sequence[object] = special_tokens
    if (
        isinstance(names, str)
        or not all(isinstance(name, str) and name for name in names)
        or len(set(names)) < len(names)
    ):
        raise TokenizerError(f"Special tokens must be a list of different, non-empty strings, not {special_tokens!r}.")
    if pattern is not None and pattern not in NAMES and re.fullmatch(r"[\w-]*", pattern):
        raise TokenizerError(
            f'A pattern must be "gpt2", "gpt4", None or a regular expression that cuts text, but {pattern!r} finds only itself.'
        )
    num_merges = operator.index(vocab_size) - NUM_BYTES - len(special_tokens)
    if num_merges < 0:
        raise TokenizerError(
            f"vocab_size must be at least {NUM_BYTES + len(special_tokens)}, for {NUM_BYTES} bytes and "
            f"{len(special_tokens)} special tokens, not {vocab_size}."
        )
    splitter = pre_tokenizer(pattern)
    pieces, counts = count_pieces(
        [texts] if isinstance(texts, str) else texts,
        splitter,
        separators=special_tokens,
        on_progress=progress and functools.partial(progress, 0, num_merges),
    )
    merges = learn_merges(pieces, counts, num_merges, progress)
    tokens = [bytes((byte,)) for byte in range(NUM_BYTES)]
    for left, right in merges:
        tokens.append(tokens[left] + tokens[right])
    return BPEModel(
        vocabulary={token: id for id, token in enumerate(tokens)},
        merges=merges,
        pattern=splitter.pattern,
        special_tokens={text: id for id, text in enumerate(special_tokens, len(tokens))},
    )
