"""Streaming decoder: decodes ids as they arrive and never emits an incomplete character.

A token is a sequence of bytes, and the bytes of one character may be spread over several tokens. Bytes that begin a
character are buffered until it is complete; invalid bytes become U+FFFD, as in decoding all ids at once.

References
----------
.. [1] The Unicode Standard, chapter 3.9, "Unicode Encoding Forms", https://www.unicode.org/versions/latest/core-spec/
"""

import codecs
from collections.abc import Callable, Iterable


class ByteStreamDecoder:
    """`StreamDecoder` for any tokenizer that maps ids to bytes.

    Parameters
    ----------
    decode_bytes : callable
        Maps ids to the bytes of their tokens.
    """

    def __init__(self, decode_bytes: Callable[[Iterable[int]], bytes]) -> None:
        self._decode_bytes = decode_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def decode(self, token: int) -> str:
        """Decode one id and return the characters that it completes."""
        return self.push((token,))

    def push(self, ids: Iterable[int]) -> str:
        """Decode several ids and return the characters that they complete."""
        return self._decoder.decode(self._decode_bytes(ids))

    def flush(self) -> str:
        """End the stream and return the buffered bytes as U+FFFD."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text
