"""Tokenizer of SentencePiece BPE vocabularies with byte fallback, as in Llama-2 and Mistral.

Reading order: `model` holds the vocabulary and the merges; `merger` maps characters to the first tokens;
`huggingface` and `gguf` convert files; `tokenizer` combines these.
"""

from axone.tokenizer.sentencepiece.tokenizer import SentencePieceTokenizer

__all__ = ["SentencePieceTokenizer"]
