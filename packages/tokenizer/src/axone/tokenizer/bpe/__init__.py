"""Byte-level BPE: pre-tokenization, training and application of merges, and the file formats.

Reading order: `patterns` and `vectorized_patterns` split text into pieces; `flat_words`, `train_merges` and
`apply_merges` train and apply merges; `model` holds the result; `counting` and `train`, `encoder`, `subword` and
`tokenizer` combine these. `hash_table`, `piece_table` and `counting_workers` make it fast. `portable_regex` checks
custom patterns. `huggingface`, `tiktoken` and `gguf` convert files.
"""

from axone.tokenizer.bpe.subword import SubwordTokenizer
from axone.tokenizer.bpe.tokenizer import BPETokenizer

__all__ = ["BPETokenizer", "SubwordTokenizer"]
