"""Transformers and llama.cpp as functions of a model's path, for `interop.py`."""

import json
import logging
import subprocess
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch  # type: ignore[import-not-found]  # a peer, which our environment does not have
import transformers  # type: ignore[import-not-found]  # likewise
from numpy.typing import NDArray

from axone.autograd import no_grad
from axone.llm import LanguageModel, generate

torch.set_num_threads(1)  # tiny models, beside the threads of NumPy
DECODE = Path(__file__).parent / "llama_cpp_decode.py"


@dataclass(frozen=True)
class Decoded:
    """Logits and greedy continuation of a prompt.

    Attributes
    ----------
    logits : ndarray, shape (T, V)
        Of the prompt.
    ids : sequence of int
    gaps : sequence of float
        Difference between the two largest logits before each new token.
    text : str
        The continuation, where the peer decoded it.
    """

    logits: NDArray[Any]
    ids: Sequence[int]
    gaps: Sequence[float]
    text: str = ""


@contextmanager
def recorded_warnings() -> Iterator[list[str]]:
    """Record warnings of Python and of the log of transformers."""
    messages: list[str] = []

    class Recorder(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    recorder, logger = Recorder(logging.WARNING), logging.getLogger("transformers")
    transformers.utils.logging.set_verbosity_warning()
    transformers.utils.logging.disable_progress_bar()
    logger.addHandler(recorder)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield messages
        messages += [str(each.message) for each in caught if not issubclass(each.category, ResourceWarning)]
    finally:
        logger.removeHandler(recorder)


def open_in_transformers(path: Path) -> tuple[Any, Any, list[str]]:
    """Return model (in float32) and tokenizer of a folder or a GGUF file, and what transformers complains about.

    The tokenizer is None where the folder has none.
    """
    source, named = (path.parent, {"gguf_file": path.name}) if path.suffix == ".gguf" else (path, {})
    with recorded_warnings() as messages:
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32, output_loading_info=True, **named
        )
        tokenizer = None
        if named or (path / "tokenizer.json").exists():
            tokenizer = transformers.AutoTokenizer.from_pretrained(source, **named)
    return model.eval(), tokenizer, messages + [f"{kind}: {sorted(keys)}" for kind, keys in info.items() if keys]


def decode_in_transformers(model: Any, prompts: Sequence[Sequence[int]], count: int) -> list[Decoded]:
    """Return logits and greedy continuations, which do not stop at the end of a text."""
    return [_decode(model, prompt, count) for prompt in prompts]


def _decode(model: Any, prompt: Sequence[int], count: int) -> Decoded:
    ids: list[int] = []
    gaps: list[float] = []
    with torch.no_grad():
        output = model(torch.tensor([list(prompt)]), use_cache=True)
        logits = output.logits[0].numpy()
        for _ in range(count):
            best = torch.topk(output.logits[0, -1], 2)
            ids.append(int(best.indices[0]))
            gaps.append(float(best.values[0] - best.values[1]))
            output = model(best.indices[None, :1], cache=output.past_key_values, use_cache=True)
    return Decoded(logits, ids, gaps)


def loss_in_transformers(model: Any, inputs: NDArray[Any], targets: NDArray[Any]) -> float:
    """Return the mean loss over sequences, in nats per token: ids (N, T) and the ids that follow them."""
    total = 0.0
    with torch.no_grad():
        for ids, following in zip(
            np.array_split(inputs, 1 + len(inputs) // 64), np.array_split(targets, 1 + len(inputs) // 64)
        ):
            logits = model(torch.from_numpy(ids.astype(np.int64))).logits
            wanted = torch.from_numpy(following.astype(np.int64))
            total += float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="sum"))
    return total / targets.size


def decode_here(model: LanguageModel, prompts: Sequence[Sequence[int]], count: int) -> list[Decoded]:
    """Return logits and greedy continuations, which do not stop at the end of a text; without gaps."""
    decoded = []
    for prompt in prompts:
        with no_grad():
            logits = model(np.array([prompt])).data[0]
        ids = list(generate(model, prompt, max_new_tokens=count, temperature=0, stop_ids=()))
        decoded.append(Decoded(logits, ids, ()))
    return decoded


def decode_in_llama_cpp(
    python: Path, path: Path, prompts: Sequence[Sequence[int]], count: int, texts: Sequence[str] = ()
) -> tuple[list[Decoded], list[list[int]]]:
    """Return logits and greedy continuations of prompts, and the token ids of texts.

    Parameters
    ----------
    python : Path
        Interpreter that has llama-cpp-python.
    path : Path
        GGUF file.
    prompts : sequence of sequence of int
    count : int
        Tokens to generate.
    texts : sequence of str
        Their special tokens are encoded as ordinary text.
    """
    task = {"path": str(path), "texts": list(texts), "prompts": [list(prompt) for prompt in prompts], "count": count}
    result = subprocess.run(
        [str(python), str(DECODE)],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if result.returncode:
        raise RuntimeError(f"llama.cpp did not open {path}: {result.stderr.strip()[-2000:]}")
    answer = json.loads(result.stdout)
    decoded = [Decoded(np.array(each["logits"]), each["ids"], each["gaps"], each["text"]) for each in answer["prompts"]]
    return decoded, answer["ids"]


def agreement(ours: Sequence[int], theirs: Decoded, smallest_gap: float) -> tuple[int, bool]:
    """Return the number of equal tokens at the start, and whether the first unequal one was as good as tied."""
    equal = next((i for i, (a, b) in enumerate(zip(ours, theirs.ids, strict=True)) if a != b), len(ours))
    return equal, equal == len(ours) or theirs.gaps[equal] <= smallest_gap
