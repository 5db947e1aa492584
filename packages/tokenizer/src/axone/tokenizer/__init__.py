"""Character and byte-level BPE tokenizers in plain Python and NumPy."""
