"""Train a small network of single neurons, and draw it: `uv run apps/neuron.py --help`."""

from commands.console import run

if __name__ == "__main__":
    run("neuron")
