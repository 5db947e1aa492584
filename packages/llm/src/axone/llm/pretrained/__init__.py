"""Model folders: configurations and weights in the conventions of Hugging Face's model families."""
