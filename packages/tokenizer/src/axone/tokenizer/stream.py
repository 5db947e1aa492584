"""Decoding ids as they arrive, without ever showing half a character.

A token is bytes, and a character may be spread over several tokens. Bytes that begin a character are held back until it is
whole; bytes that cannot belong to any are U+FFFD, as in decoding all at once.

References
----------
.. [1] The Unicode Standard, chapter 3.9, "Unicode Encoding Forms", https://www.unicode.org/versions/latest/core-spec/
"""

import codecs
from collections.abc import Callable, Iterable


class ByteStreamDecoder:
    """The `StreamDecoder` of any tokenizer that can say which bytes ids stand for.

    Parameters
    ----------
    decode_bytes : Callable[[Iterable[int]], bytes]
        What the tokenizer makes of ids.
    """

    def __init__(self, decode_bytes: Callable[[Iterable[int]], bytes]) -> None:
        self._decode_bytes = decode_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def decode(self, token: int) -> str:
        """Take one id and return the text that it completes."""
        return self.push((token,))

    def push(self, ids: Iterable[int]) -> str:
        """Take several ids and return the text that they complete."""
        return self._decoder.decode(self._decode_bytes(ids))

    def flush(self) -> str:
        """End the stream and return what was held back."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text
