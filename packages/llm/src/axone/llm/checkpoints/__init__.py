"""Runs and checkpoints on disk, and the bundle of model and tokenizer."""
