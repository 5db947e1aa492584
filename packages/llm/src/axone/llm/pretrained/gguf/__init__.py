"""GGUF, the file format of llama.cpp: one file with a model's metadata, tokenizer and weights, quantized or not."""
