"""Byte-level BPE, one idea a file: what pieces text is cut into, how merges are learned and applied, what files hold.

Read in this order: `patterns` and `rules`, how text is cut; `flat`, `learn` and `merge`, how pairs are learned and joined; `model`, what is
learned; `corpus` and `train`, `encoder` and `tokenizer`, which put this together. Then what makes it fast, `lookup`, `pieces`, `count` and
`processes`, and the files: `huggingface` and `tiktoken`.
"""

from axone.tokenizer.bpe.tokenizer import BPETokenizer

__all__ = ["BPETokenizer"]
