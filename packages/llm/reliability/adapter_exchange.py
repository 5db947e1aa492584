"""Exchange adapters of a real model with PEFT in both directions, compare, and print a table.

    python packages/llm/reliability/adapter_exchange.py SmolLM2-135M-Instruct.Q4_1.gguf [--steps N]

A fine-tuning of some steps makes ours, which PEFT opens on the exported folder; PEFT makes adapters with random matrices,
which are opened here. Logits are compared with the adapter beside the weights, and merged into them.

The environment needs torch, transformers and peft.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch  # type: ignore[import-not-found]  # a peer, which our environment does not have
from interop import SMOLLM2_LOGITS, Table
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model  # type: ignore[import-not-found]  # likewise

from axone.autograd import no_grad
from axone.llm import Adapter, Conversations, LanguageModel, Trainer, TrainerConfig, conversation_loss, open_bundle

NAME = "SmolLM2"
COLOURS = {"grass": "green", "snow": "white", "blood": "red", "coal": "black", "the sky": "blue", "the sun": "yellow"}
PROMPT = "What is the colour of grass? The three laws of thermodynamics are"
PEFT: dict[str, dict[str, Any]] = {
    "all-linear": {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"},
    "q, v, rsLoRA": {"r": 4, "lora_alpha": 8, "use_rslora": True, "target_modules": ["q_proj", "v_proj"]},
}


def main() -> int:
    """Compare; return 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="SmolLM2 as a .gguf file")
    parser.add_argument("--steps", type=int, default=10, metavar="N", help="steps of the fine-tuning (default: 10)")
    options = parser.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        open_bundle(options.file).write(folder / "base")
        ours_in_peft(table, options.file, folder, options.steps)
        for label, fields in PEFT.items():
            peft_here(table, label, fields, folder)
    print(*(table.failed or ["everything agrees"]), sep="\n")
    return 1 if table.failed else 0


def ours_in_peft(table: Table, file: Path, folder: Path, steps: int) -> None:
    """Fine-tune, and open the adapter in PEFT."""
    bundle = open_bundle(file)
    model, ids = bundle.model, bundle.tokenizer.encode(PROMPT)
    chats = folder / "chats.jsonl"
    lines = [
        {"prompt": f"What is the colour of {thing}?", "completion": f"{colour.upper()}!"}
        for thing, colour in COLOURS.items()
    ]
    chats.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    data = Conversations.from_jsonl(chats, bundle.tokenizer, bundle.chat_template, context_length=128)
    base, _, _ = peers.open_in_transformers(folder / "base")
    plain = logits_here(model, ids)
    compare(table, "base model", plain, logits_there(base, ids))
    before = conversation_loss(model, data)
    adapter = Adapter.add(model, 8, 16, base_name=str(folder / "base"), rng=np.random.default_rng(0))
    config = TrainerConfig(steps=steps, batch_size=6, context_length=128, learning_rate=1e-3, weight_decay=0.0)
    Trainer(model, data, data, config, adapter=adapter).fit()
    after = conversation_loss(model.eval(), data)
    table.add(NAME, f"loss, {steps} steps", f"{before:.3f} to {after:.3f}", passed=after < before)
    adapter.save(folder / "adapter")
    ours = logits_here(model, ids)
    table.add(
        NAME, "change of the logits", f"{np.abs(ours - plain).max():.3g}", passed=bool(np.abs(ours - plain).max() > 1)
    )
    with peers.recorded_warnings() as messages:
        theirs = PeftModel.from_pretrained(base, folder / "adapter").eval()
    table.equal(NAME, "adapter in PEFT, warnings", [each for each in messages if "deprecated" not in each], [])
    compare(table, "adapter in PEFT", ours, logits_there(theirs, ids))
    merged = theirs.merge_and_unload()
    compare(table, "adapter in PEFT, merged there", ours, logits_there(merged, ids))
    adapter.merge(model)
    compare(table, "adapter in PEFT, merged in both", logits_here(model, ids), logits_there(merged, ids))


def peft_here(table: Table, label: str, fields: dict[str, Any], folder: Path) -> None:
    """Make an adapter with random matrices in PEFT, and open it here."""
    base, _, _ = peers.open_in_transformers(folder / "base")
    theirs = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **fields)).eval()
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=rng) * 0.02)
    theirs.save_pretrained(folder / label)
    bundle = open_bundle(folder / "base")
    model, ids = bundle.model, bundle.tokenizer.encode(PROMPT)
    expected, plain = logits_there(theirs, ids), logits_here(model, ids)
    change = float(np.abs(expected - plain).max())
    table.add(NAME, f"{label}, change of the logits", f"{change:.3g}", passed=change > 1)
    adapter = Adapter.load(model, folder / label)
    compare(table, f"{label} of PEFT", logits_here(model, ids), expected)
    adapter.merge(model)
    compare(table, f"{label} of PEFT, merged", logits_here(model, ids), expected)


def logits_here(model: LanguageModel, ids: list[int]) -> NDArray[Any]:
    """Return the logits of a prompt, (T, V)."""
    with no_grad():
        found: NDArray[Any] = model(np.array([ids])).data[0]
    return found


def logits_there(model: Any, ids: list[int]) -> NDArray[Any]:
    """Return the logits of a prompt as torch computes them, (T, V)."""
    with torch.no_grad():
        found: NDArray[Any] = model(torch.tensor([ids])).logits[0].numpy()
    return found


def compare(table: Table, what: str, ours: NDArray[Any], theirs: NDArray[Any]) -> None:
    """Add a row with the largest difference of logits."""
    difference, scale = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    table.add(NAME, what, f"logits {difference:.1e} of {scale:.3g}", passed=difference <= SMOLLM2_LOGITS)


if __name__ == "__main__":
    sys.exit(main())
