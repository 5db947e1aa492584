"""Verification of a model against transformers: token ids, queries and keys of every layer, logits and greedy text.

A converted model can be wrong and still write fluently, for example with the rows of queries and keys in another order. So
each stage is compared on its own, and the first one that differs shows where the fault is. Where transformers is not
installed, the quantities are compared with a file that `save_golden` wrote where it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor, no_grad
from axone.llm.checkpoints.bundle import ModelBundle, open_bundle
from axone.llm.errors import MissingDependencyError
from axone.llm.generation.generate import generate
from axone.llm.pretrained.source import is_gguf
from axone.llm.storage.safetensors import read_arrays, write_arrays
from axone.nn import MultiHeadAttention

Quantities: TypeAlias = dict[str, NDArray[Any]]

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "  Indented\n\n\tlines, 3.14159 and 1234567 numbers; isn't it?",
    "Café naïve, Привет, 東京タワー, नमस्ते, 🐌👩‍👩‍👧",
    "def f(x):\n    return {'a': x ** 2}  # comment",
)
"""Texts whose ids are compared."""
_PROMPT = "The capital of France is"
_NEW_TOKENS = 32
_IDS, _LOGITS, _GREEDY = "ids", "logits", "greedy"


@dataclass(frozen=True)
class Comparison:
    """A quantity in both programs.

    Attributes
    ----------
    name : str
    difference : float
        The largest difference: of numbers, or the number of unequal tokens.
    scale : float
        The largest number, or the number of tokens.
    passed : bool
    """

    name: str
    difference: float
    scale: float
    passed: bool


@dataclass(frozen=True)
class Report:
    """All comparisons of a model.

    Attributes
    ----------
    comparisons : list of Comparison
        From the first stage to the last.
    """

    comparisons: list[Comparison]

    @property
    def passed(self) -> bool:
        """Whether everything agrees."""
        return all(comparison.passed for comparison in self.comparisons)

    def __str__(self) -> str:
        lines = [f"{'quantity':22} {'largest difference':>18} {'of':>12}"]
        lines += [
            f"{each.name:22} {each.difference:18.2e} {each.scale:12.4g}  {'' if each.passed else 'DIFFERS'}".rstrip()
            for each in self.comparisons
        ]
        return "\n".join(lines)


def verify(path: str | PathLike[str], golden: str | PathLike[str] | None = None) -> Report:
    """Compare a model with transformers, or with a golden file.

    Parameters
    ----------
    path : path
        A model folder or a GGUF file.
    golden : path, optional
        A file of `save_golden`; by default transformers computes the quantities now.

    Returns
    -------
    Report

    Raises
    ------
    CheckpointError
        If the path or the golden file cannot be read.
    MissingDependencyError
        If there is no golden file, and transformers or torch is not installed.
    """
    expected = _of_transformers(Path(path)) if golden is None else read_arrays(Path(golden))
    return compare(quantities(open_bundle(path)), expected)


def save_golden(path: str | PathLike[str], golden: str | PathLike[str]) -> None:
    """Write the quantities that transformers computes for a model, for `verify` without transformers.

    Parameters
    ----------
    path : path
        A model folder or a GGUF file.
    golden : path
        The file to write, in the safetensors format.

    Raises
    ------
    MissingDependencyError
        If transformers or torch is not installed.
    OSError
        If the file cannot be written.
    """
    write_arrays(Path(golden), _of_transformers(Path(path)))


def quantities(bundle: ModelBundle) -> Quantities:
    """Return the quantities that are compared, as Axone computes them.

    Parameters
    ----------
    bundle : ModelBundle

    Returns
    -------
    dict of str to ndarray
        The ids of `TEXTS`; queries and keys of each layer before they are rotated, (T, H D) and (T, K D); the logits after
        each token of the prompt, (T, V); the ids of the greedy continuation.
    """
    model, prompt = bundle.model, bundle.tokenizer.encode(_PROMPT)
    found: Quantities = {f"{_IDS} {i}": np.asarray(bundle.tokenizer.encode(text)) for i, text in enumerate(TEXTS)}
    with no_grad():
        x = model.embed(np.asarray(prompt)[None])
        if model.transformer.position is not None:
            x = x + model.transformer.position(np.arange(len(prompt)))
        for layer, block in enumerate(model.transformer.blocks):
            if isinstance(block.attention, MultiHeadAttention):
                q, k = _queries_and_keys(block.attention, block.attention_norm(x))
                found |= {f"layer {layer} q": q, f"layer {layer} k": k}
            x = block(x)
        found[_LOGITS] = model(np.asarray(prompt)[None]).data[0]
    new = generate(model, prompt, max_new_tokens=_NEW_TOKENS, temperature=0, stop_ids=())
    found[_GREEDY] = np.asarray(list(new))
    return found


def compare(found: Quantities, expected: Quantities) -> Report:
    """Compare quantities with expected ones.

    Numbers agree if no difference exceeds a thousandth of the largest number. Greedy texts may part where the two best
    logits are as close as that; every other id must be the same.
    """
    comparisons = []
    for name, ours in found.items():
        theirs = expected.get(name)
        if theirs is None or theirs.shape != ours.shape:
            comparisons.append(Comparison(name, float("inf"), 0.0, passed=False))
        elif name.startswith(_IDS) or name == _GREEDY:
            unequal = int((ours != theirs).sum())
            comparisons.append(Comparison(name, unequal, len(ours), passed=unequal == 0))
        else:
            difference, scale = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
            comparisons.append(Comparison(name, difference, scale, passed=difference <= 1e-3 * scale))
    return Report(comparisons)


def _queries_and_keys(attention: MultiHeadAttention, x: Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return queries and keys before norm and rotation, a row for each position."""
    packed, width = attention.qkv_proj(x).data[0], attention.head_dim
    queries = attention.num_heads * width
    return packed[:, :queries], packed[:, queries : queries + attention.num_kv_heads * width]


def _of_transformers(path: Path) -> Quantities:
    """Return the quantities as transformers computes them, in float32."""
    try:
        import torch  # type: ignore[import-not-found]  # a peer, which nothing else needs
        import transformers  # type: ignore[import-not-found]  # likewise
    except ImportError as error:
        raise MissingDependencyError("comparisons", "transformers", "transformers", "torch") from error
    gguf = is_gguf(path)
    if gguf and find_spec("gguf") is None:
        raise MissingDependencyError("comparisons of GGUF files", "gguf", "gguf")
    source, named = (path.parent, {"gguf_file": path.name}) if gguf else (path, {})
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, **named)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **named).eval()

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
        return ids

    prompt = torch.tensor([encode(_PROMPT)])
    found: Quantities = {f"{_IDS} {i}": np.asarray(encode(text)) for i, text in enumerate(TEXTS)}
    captured: Quantities = {}
    hooks = [module.register_forward_hook(_capture(captured, name)) for name, module in model.named_modules()]
    with torch.no_grad():
        logits = model(prompt).logits[0].numpy()
        for hook in hooks:
            hook.remove()
        new = model.generate(
            prompt,
            max_new_tokens=_NEW_TOKENS,
            do_sample=False,
            repetition_penalty=1.0,
            eos_token_id=None,
            pad_token_id=0,
        )
    greedy = new[0, prompt.shape[1] :].numpy()
    return {**found, **_by_layer(captured), _LOGITS: logits, _GREEDY: greedy}


def _capture(captured: Quantities, name: str) -> Callable[[Any, Any, Any], None]:
    """Return a hook that keeps the output of the projections to queries and keys."""

    def hook(_module: Any, _inputs: Any, output: Any) -> None:
        if re.search(r"\.(q_proj|k_proj|c_attn)$", name):
            captured[name] = output[0].numpy().copy()

    return hook


def _by_layer(captured: Quantities) -> Quantities:
    """Return captured projections under the names of `quantities`; GPT-2 has queries, keys and values in one."""
    found: Quantities = {}
    for name, array in captured.items():
        layer = re.search(r"\.(\d+)\.", name)
        number = layer[1] if layer else "?"
        if name.endswith("c_attn"):
            q, k, _ = np.split(array, 3, axis=-1)
            found |= {f"layer {number} q": q, f"layer {number} k": k}
        else:
            found[f"layer {number} {name.rpartition('.')[2][0]}"] = array
    return found
