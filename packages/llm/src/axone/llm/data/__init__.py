"""Datasets: text to token files, and token files to batches."""
