"""Finding special tokens in text. What they mean, and whether a text may spell them, is not known here."""

import functools
import re


@functools.lru_cache(maxsize=256)
def matcher(tokens: frozenset[str]) -> re.Pattern[str] | None:
    """Return a pattern that finds any of the tokens, the longest where several begin; None for no tokens."""
    if not tokens:
        return None
    return re.compile("|".join(map(re.escape, sorted(tokens, key=lambda token: (-len(token), token)))))
