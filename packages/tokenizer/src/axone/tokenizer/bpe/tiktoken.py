"""Ranks of tiktoken: the same vocabulary told differently, bytes to rank, without a list of merges.

tiktoken joins two neighbours when what they spell has a rank, and its lowest rank goes first. So each token is made in one way only: by
merging its own bytes until two parts are left. That pair is the merge that makes it, whatever text surrounds it, because until then
nothing else has happened to these bytes. A token whose bytes never come down to two parts is not made by merging; it is found only as
a whole piece, which tiktoken looks up first.

References
----------
.. [1] tiktoken, https://github.com/openai/tiktoken
"""

from collections.abc import Iterable, Mapping

from axone.tokenizer.bpe.model import BPEModel
from axone.tokenizer.protocol import TokenizerError

_NEVER = 1 << 31


def from_ranks(ranks: Mapping[bytes, int], pattern: str | None, special_tokens: Mapping[str, int]) -> BPEModel:
    """Return the model of tiktoken's ranks.

    Raises
    ------
    TokenizerError
        If they are not bytes with an integer each, or not consistent.
    """
    given: Iterable[tuple[object, object]] = ranks.items()
    for token, rank in given:
        if not (isinstance(token, bytes) and isinstance(rank, int)):
            raise TokenizerError(f"Ranks must map bytes to integers, but there is {token!r}: {rank!r}.")
    vocabulary = dict(sorted(ranks.items(), key=lambda item: item[1]))
    halves = [_last_pair(token, ranks) for token in vocabulary if len(token) > 1]
    return BPEModel(
        vocabulary=vocabulary,
        merges=[(ranks[pair[0]], ranks[pair[1]]) for pair in halves if pair is not None],
        pattern=pattern,
        special_tokens=dict(special_tokens),
        whole_words=None in halves,
    )


def to_ranks(model: BPEModel) -> dict[bytes, int]:
    """Return tiktoken's ranks of a model.

    Raises
    ------
    TokenizerError
        If the ids are not in the order of the merges, so that no ranks can give the same tokens.
    """
    twin = from_ranks(model.vocabulary, model.pattern, model.special_tokens)
    # Files may list other pairs that spell the same token: none of them ever comes up.
    wanted = set(twin.merges)
    if [pair for pair in model.merges if pair in wanted] != twin.merges or (twin.whole_words and not model.whole_words):
        raise TokenizerError(
            "Ranks must say which merge comes first, but the ids of this tokenizer are not in the order of its merges; "
            "save it as a tokenizer.json instead."
        )
    return dict(twin.vocabulary)


def _last_pair(token: bytes, ranks: Mapping[bytes, int]) -> tuple[bytes, bytes] | None:
    """Return the two parts that merging leaves of a token before the last merge; None if it gets stuck earlier."""
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        rank, i = min((ranks.get(parts[i] + parts[i + 1], _NEVER), i) for i in range(len(parts) - 1))
        if rank == _NEVER:
            return None
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    left, right = parts
    return (left, right) if left in ranks and right in ranks else None
