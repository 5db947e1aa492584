"""A language model on NumPy: train it on your own text on a CPU, sample from it, read every line."""
