"""Character and byte-level BPE tokenizers in plain Python and NumPy."""

from axone.tokenizer.bpe import BPETokenizer, SubwordTokenizer
from axone.tokenizer.char import CharTokenizer
from axone.tokenizer.errors import TokenizerError
from axone.tokenizer.gguf import from_gguf
from axone.tokenizer.load import load
from axone.tokenizer.protocol import StreamDecoder, Tokenizer
from axone.tokenizer.sentencepiece import SentencePieceTokenizer

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
