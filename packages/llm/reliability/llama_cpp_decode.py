"""Decode with llama.cpp, for `interop.py`: a JSON object on standard input, another on standard output.

This script imports nothing of Axone, so that llama-cpp-python can be installed in an environment of its own.
"""

import json
import sys

import llama_cpp  # type: ignore[import-not-found]  # a peer, which our environment does not have
import numpy as np
from llama_cpp import Llama

F32 = 0  # GGML_TYPE_F32, for keys and values; the default is float16
default_parameters = llama_cpp.llama_cpp.llama_model_default_params


def without_repacking() -> object:
    """Return llama.cpp's parameters without extra buffers: its AMX kernels crash in some virtual machines."""
    parameters = default_parameters()
    parameters.use_extra_bufts = False
    return parameters


llama_cpp.llama_cpp.llama_model_default_params = without_repacking


def main() -> None:
    """Write token ids of texts, and logits and greedy continuations of prompts."""
    task = json.load(sys.stdin)
    context = max((len(prompt) for prompt in task["prompts"]), default=0) + task["count"] + 8
    model = Llama(
        task["path"],
        n_ctx=context,
        logits_all=True,
        type_k=F32,
        type_v=F32,
        flash_attn=False,
        n_threads=2,
        verbose=False,
    )
    answer = {
        "ids": [model.tokenize(text.encode("utf-8"), add_bos=False, special=False) for text in task["texts"]],
        "prompts": [decode(model, prompt, task["count"]) for prompt in task["prompts"]],
    }
    json.dump(answer, sys.stdout)


def decode(model: Llama, prompt: list[int], count: int) -> dict[str, object]:
    """Return the logits of a prompt, and a greedy continuation: its ids, its text and the gaps between the best two."""
    model.reset()
    model.eval(prompt)
    logits = model.scores[: len(prompt)].tolist()
    ids: list[int] = []
    gaps: list[float] = []
    for _ in range(count):
        last = model.scores[model.n_tokens - 1]
        second, best = np.argsort(last)[-2:]
        ids.append(int(best))
        gaps.append(float(last[best] - last[second]))
        model.eval(ids[-1:])
    text = model.detokenize(ids, prev_tokens=prompt).decode("utf-8", "replace")
    return {"logits": logits, "ids": ids, "gaps": gaps, "text": text}


if __name__ == "__main__":
    main()
