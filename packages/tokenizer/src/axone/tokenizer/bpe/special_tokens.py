"""Search for special tokens in text. Whether a text may spell them is decided by the caller."""

import functools
import re


@functools.lru_cache(maxsize=256)
def token_pattern(tokens: frozenset[str]) -> re.Pattern[str] | None:
    """Compile a pattern that finds any of the tokens, the longest first; return None if there are no tokens."""
    if not tokens:
        return None
    return re.compile("|".join(map(re.escape, sorted(tokens, key=lambda token: (-len(token), token)))))
