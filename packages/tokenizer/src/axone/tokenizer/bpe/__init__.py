"""Byte-level BPE, one idea a file: what pieces text is cut into, how merges are learned and applied, what files hold.

Read in this order: `patterns`, `flat`, `train`, `encode`, `model`, `tokenizer`; then `count` with `worker`, `stream`,
`huggingface` and `tiktoken`.
"""

from axone.tokenizer.bpe.tokenizer import BPETokenizer

__all__ = ["BPETokenizer"]
