"""Character and byte-level BPE tokenizers in plain Python and NumPy."""

from typing import TYPE_CHECKING

from axone.tokenizer.bpe import BPETokenizer, SubwordTokenizer
from axone.tokenizer.char import CharTokenizer
from axone.tokenizer.errors import TokenizerError
from axone.tokenizer.gguf import from_gguf
from axone.tokenizer.load import load
from axone.tokenizer.protocol import StreamDecoder, Tokenizer

if TYPE_CHECKING:
    from axone.tokenizer.sentencepiece import SentencePieceTokenizer
else:

    def __getattr__(name: str) -> object:
        if name != "SentencePieceTokenizer":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from axone.tokenizer.sentencepiece import SentencePieceTokenizer  # 2 ms, which few need

        globals()[name] = SentencePieceTokenizer
        return SentencePieceTokenizer


__all__ = [
    "BPETokenizer",
    "CharTokenizer",
    "SentencePieceTokenizer",
    "StreamDecoder",
    "SubwordTokenizer",
    "Tokenizer",
    "TokenizerError",
    "from_gguf",
    "load",
]
