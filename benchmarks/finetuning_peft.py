"""Fine-tune a real model with Axone and with PyTorch and PEFT, on the same batches, side by side.

    python benchmarks/finetuning_peft.py MODEL.gguf --peer-python PYTHON [--steps N]

The examples are those of `finetuning.py`. The programs run in turns, so that both meet the same load of the machine; a rate
is the median of the steps after the first two. Tokens are those of the conversations, however they are computed: Axone
computes the beginning that all rows share once, and the output layer where a token is learned. Two races give up the first,
and one both. Targets: 1.5 times PEFT's tokens per second at 0.7 of its peak memory; with the output layer at all
positions, and for full fine-tuning, 1.15 times.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from finetuning import TRAINED, examples, write

from axone.llm import Conversations, open_bundle

HERE = Path(__file__).parent / "contenders"
WARM_UP = 2
RACES = {
    "adapter": ([], 1.5),
    "adapter, prefix repeated": (["--repeated"], None),
    "adapter, all positions": (["--all-positions"], 1.15),
    "full": (["full"], 1.15),
    "full, prefix repeated": (["full", "--repeated"], None),
}


def run(python, script, *arguments):
    command = [python, str(HERE / script), *map(str, arguments)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(out.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--races", nargs="*", default=list(RACES), choices=list(RACES))
    options = parser.parse_args()
    bundle = open_bundle(options.model)
    with tempfile.TemporaryDirectory() as name:
        folder, batches = Path(name) / "model", Path(name) / "batches.npz"
        bundle.write(folder)
        path = write(Path(name) / "train.jsonl", examples(options.steps * options.batch_size, TRAINED, seed=0))
        data = Conversations.from_jsonl(path, bundle.tokenizer, bundle.chat_template)
        del bundle
        arrays, tokens = {}, []
        for number in range(options.steps):
            numbers = data.deal(0, number, options.batch_size, 0, "epoch", 1)[0]
            width = int(data.lengths[numbers].max())
            rows = [data.read(np.array([index]), 0) for index in numbers]  # padded: no row holds several
            for kind, fill in (("inputs", 0), ("targets", -100)):
                padded = [
                    np.pad(getattr(row, kind)[0], (0, width - row.inputs.shape[1]), constant_values=fill)
                    for row in rows
                ]
                arrays[f"{kind}{number}"] = np.stack(padded)
            tokens.append(int(data.lengths[numbers].sum()))
        np.savez(batches, **arrays)
        for race in options.races:
            way, bound = RACES[race]
            ours = run(sys.executable, "axone_finetune.py", folder, batches, options.rank, *way)
            theirs = run(
                options.peer_python, "peft_finetune.py", folder, batches, options.rank, *[w for w in way if w == "full"]
            )
            target = "" if bound is None else f"(target {bound})"
            rates = [float(np.median(np.array(tokens[WARM_UP:]) / r["seconds"][WARM_UP:])) for r in (ours, theirs)]
            print(
                f"{race:26} {rates[0]:8,.0f} tokens/s, PEFT {rates[1]:8,.0f}: {rates[0] / rates[1]:.2f} {target}; "
                f"peak {ours['peak']:,.0f} MB, PEFT {theirs['peak']:,.0f}: {ours['peak'] / theirs['peak']:.2f}; "
                f"losses {ours['losses'][-1]:.3f} and {theirs['losses'][-1]:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
