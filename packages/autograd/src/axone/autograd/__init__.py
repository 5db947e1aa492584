"""Automatic differentiation on NumPy: a scalar Value that explains it, a Tensor that uses it, and optimizers."""
