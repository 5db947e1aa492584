"""Neural-network layers, attention and Transformers on NumPy that read like the papers."""
