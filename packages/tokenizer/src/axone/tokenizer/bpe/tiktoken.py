"""Conversion from and to the ranks of tiktoken: a map from bytes to rank, without a list of merges.

tiktoken merges two adjacent tokens if their concatenation has a rank, the lowest rank first. So each token is created
by one pair only: the two parts that are left when its own bytes have been merged up to that point. The surrounding
text cannot change this pair, because a merge that takes one of its bytes would exclude the token. A token whose bytes
never reduce to two parts is not created by merging: it is found only as a whole piece, which tiktoken looks up first
(`ignore_merges`).

References
----------
.. [1] tiktoken, https://github.com/openai/tiktoken
"""

from collections.abc import Iterable, Mapping

from axone.tokenizer.bpe.model import BPEModel
from axone.tokenizer.errors import TokenizerError

_NEVER = 1 << 31


def from_ranks(ranks: Mapping[bytes, int], pattern: str | None, special_tokens: Mapping[str, int]) -> BPEModel:
    """Return the model of tiktoken's ranks.

    Raises
    ------
    TokenizerError
        If they do not map bytes to integers, or two ranks are equal.
    """
    given: Iterable[tuple[object, object]] = ranks.items()
    for token, rank in given:
        if not (isinstance(token, bytes) and isinstance(rank, int)):
            raise TokenizerError(f"ranks hold {token!r}: {rank!r}, but must map bytes to integers")
    vocabulary = dict(sorted(ranks.items(), key=lambda item: item[1]))
    halves = [_last_pair(token, ranks) for token in vocabulary if len(token) > 1]
    return BPEModel(
        vocabulary=vocabulary,
        merges=[(ranks[pair[0]], ranks[pair[1]]) for pair in halves if pair is not None],
        pattern=pattern,
        special_tokens=dict(special_tokens),
        ignore_merges=None in halves,
    )


def to_ranks(model: BPEModel) -> dict[bytes, int]:
    """Return tiktoken's ranks of a model.

    Raises
    ------
    TokenizerError
        If the ids are not in the order of the merges: no ranks give the same tokens.
    """
    twin = from_ranks(model.vocabulary, model.pattern, model.special_tokens)
    # Files may list other pairs with the same concatenation: they never occur.
    wanted = set(twin.merges)
    if [pair for pair in model.merges if pair in wanted] != twin.merges or (
        twin.ignore_merges and not model.ignore_merges
    ):
        raise TokenizerError(
            "ids of this tokenizer are not in the order of its merges, which ranks require: save it as a "
            "tokenizer.json instead"
        )
    return dict(twin.vocabulary)


def _last_pair(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes] | None:
    """Return the two parts of a token before its last merge; None if merging ends earlier."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        rank, i = min((ranks.get(parts[i] + parts[i + 1], _NEVER), i) for i in range(len(parts) - 1))
        if rank == _NEVER:
            return None
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    left, right = parts
    return (left, right) if left in ranks and right in ranks else None
