"""Byte-level BPE: pre-tokenization, training and application of merges, and the file formats.

Reading order: `patterns` and `vectorized_patterns` split text into pieces; `flat_words`, `train_merges` and
`apply_merges` train and apply merges; `model` holds the result; `counting` and `train`, `encoder` and `tokenizer`
combine these. `hash_table`, `piece_table` and `counting_workers` make it fast. `huggingface` and `tiktoken` convert
files.
"""

from axone.tokenizer.bpe.tokenizer import BPETokenizer

__all__ = ["BPETokenizer"]
