"""Train a small network of single neurons, and draw it: `uv run apps/neuron.py --help`."""

from axone.cli import script

if __name__ == "__main__":
    script("neuron")
