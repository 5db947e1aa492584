"""Exchange models with transformers and llama.cpp in both directions, compare, and print a table.

    python packages/llm/reliability/interop.py families          tiny random models of every family and variant
    python packages/llm/reliability/interop.py smollm2 FILE      SmolLM2-135M-Instruct, a .gguf file
    python packages/llm/reliability/interop.py trained           a model that is trained now, for some minutes

The environment needs torch, transformers, gguf and accelerate. ``--llama-cpp PYTHON`` names the interpreter of one that
has llama-cpp-python; without it, the comparisons with llama.cpp are left out.

Greedy tokens must be equal up to a position where the two largest logits differ by less than 1e-3.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch  # type: ignore[import-not-found]  # a peer, which our environment does not have
import transformers  # type: ignore[import-not-found]  # likewise

from axone.llm import (
    LanguageModel,
    LanguageModelConfig,
    Message,
    ModelBundle,
    Run,
    TokenDataset,
    Trainer,
    open_bundle,
    preset,
    python_source,
)
from axone.nn import Llama3Scaling
from axone.tokenizer import BPETokenizer, SubwordTokenizer

LOGITS = 1e-5  # the largest difference of the tiny models
SMOLLM2_LOGITS = 4e-4  # 1e-5 of the largest logit, 38
SMALLEST_GAP = 1e-3
TEXTS = (
    "The quick brown fox jumps over the lazy dog. It isn't 3.14159, or 1234567!",
    "  Indented\n\n\tlines   with \r\n spaces   \n",
    "Café naïve, Привет, 東京タワー, नमस्ते, 🐌👩‍👩‍👧 ﷽",
    "def f(x, *, y=None):\n    return {'a': x ** 2, \"b\": y}  # comment\n",
    "<|im_start|>user\nHello<|im_end|>",
)
V = 320
GPT2: dict[str, Any] = {"n_positions": 128, "n_layer": 2, "n_head": 2, "n_embd": 32}
ROTARY: dict[str, Any] = {
    "max_position_embeddings": 128, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4,
}  # fmt: skip
LLAMA3: dict[str, Any] = {
    "rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", GPT2),
    "gpt2 untied": ("gpt2", {**GPT2, "tie_word_embeddings": False}),
    "gpt2 f16": ("gpt2", {**GPT2, "n_inner": 96}),
    "llama": ("llama", ROTARY),
    "llama GQA tied": ("llama", {**ROTARY, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "llama biases": ("llama", {**ROTARY, "attention_bias": True, "mlp_bias": True}),
    "llama head_dim": ("llama", {**ROTARY, "num_key_value_heads": 1, "head_dim": 16}),
    "llama3 scaling": ("llama", {**ROTARY, "rope_parameters": LLAMA3, "head_dim": 16}),
    "llama bf16": ("llama", {**ROTARY, "num_key_value_heads": 2}),
    "llama f16": ("llama", {**ROTARY, "num_key_value_heads": 2}),
    "llama shards": ("llama", {**ROTARY, "num_key_value_heads": 2}),
    "qwen2": ("qwen2", {**ROTARY, "num_key_value_heads": 2}),
    "qwen2 tied bf16": ("qwen2", {**ROTARY, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {**ROTARY, "num_key_value_heads": 2, "head_dim": 16}),
    "qwen3 tied shards": ("qwen3", {**ROTARY, "num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": True}),
}
OWN: dict[str, Any] = {"vocab_size": V, "context_length": 128, "num_layers": 2, "num_heads": 4, "embed_dim": 32}
FAMILY: dict[str, Any] = {**OWN, "norm": "rms", "position": "rotary", "mlp": "swiglu", "bias": False}
AXONE: dict[str, dict[str, Any]] = {
    "own gpt2": OWN,
    "own gpt2, no bias": {**OWN, "bias": False, "tie_embeddings": False},
    "own llama": {**FAMILY, "num_kv_heads": 2},
    "own llama biases": {**FAMILY, "bias": True},
    "own llama3": {
        **FAMILY,
        "rope_theta": 5e5,
        "rope_scaling": Llama3Scaling(32.0, original_context_length=64),
        "tie_embeddings": False,
    },
    "own qwen2": {**FAMILY, "qkv_bias": True, "num_kv_heads": 1},
    "own qwen3": {**FAMILY, "qk_norm": True, "norm_eps": 1e-6, "head_dim": 16},
}


@dataclass
class Table:
    """Printed table of comparisons."""

    failed: list[str] = field(default_factory=list)

    def add(self, model: str, what: str, value: str, *, passed: bool) -> None:
        """Print a row."""
        print(f"{model:18} {what:34} {value}  {'' if passed else 'FAILED'}".rstrip(), flush=True)
        if not passed:
            self.failed.append(f"FAILED: {model}, {what}: {value}")

    def equal(self, model: str, what: str, ours: object, theirs: object) -> None:
        """Compare values that must be equal."""
        self.add(model, what, "equal" if ours == theirs else f"{ours!r:.200} != {theirs!r:.200}", passed=ours == theirs)

    def decoded(
        self,
        model: str,
        what: str,
        ours: Sequence[peers.Decoded],
        theirs: Sequence[peers.Decoded],
        limit: float = LOGITS,
        messages: Sequence[str] | None = None,
    ) -> None:
        """Compare logits of prompts and greedy continuations, and require that there were no warnings."""
        pairs = list(zip(ours, theirs, strict=True))
        difference = max(float(np.abs(one.logits - other.logits).max()) for one, other in pairs)
        scale = max(float(np.abs(other.logits).max()) for other in theirs)
        results = [peers.agreement(one.ids, other, SMALLEST_GAP) for one, other in pairs]
        equal, count = sum(equal for equal, _ in results), sum(len(one.ids) for one in ours)
        value = f"logits {difference:.1e} of {scale:.3g}" + f", {equal} of {count} tokens" * (count > 0)
        if messages is not None:
            value += f", {messages[0][:300] if messages else 'no warning'}"
        passed = difference <= limit and all(passed for _, passed in results) and not messages
        self.add(model, what, value, passed=passed)


def main() -> int:
    """Compare what the command line names; return 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("families", "smollm2", "trained"))
    parser.add_argument("file", type=Path, nargs="?", help="SmolLM2 as a .gguf file, which the part smollm2 needs")
    parser.add_argument("--llama-cpp", type=Path, metavar="PYTHON", help="interpreter that has llama-cpp-python")
    parser.add_argument("--steps", type=int, default=300, metavar="N", help="steps of the training (default: 300)")
    options = parser.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory() as name:
        if options.part == "families":
            families(table, Path(name), options.llama_cpp)
        elif options.part == "trained":
            trained(table, Path(name), options.llama_cpp, options.steps)
        elif options.file is None:
            parser.error("smollm2 needs a FILE")
        else:
            smollm2(table, options.file, Path(name), options.llama_cpp)
    print(*(table.failed or ["everything agrees"]), sep="\n")
    return 1 if table.failed else 0


def families(table: Table, folder: Path, llama_cpp: Path | None) -> None:
    """Compare tiny random models of every family and variant, first those of transformers, then our own."""
    tokenizer = BPETokenizer.train(" ".join(TEXTS) * 3, V - 1, special_tokens=("<|end|>",))
    for seed, (name, (kind, options)) in enumerate(TRANSFORMERS.items()):
        torch.manual_seed(seed)
        config = transformers.AutoConfig.for_model(kind, vocab_size=V, bos_token_id=1, eos_token_id=2, **options)
        random = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in random.parameters():
                parameter.add_(torch.randn_like(parameter) * (0.1 if parameter.ndim == 1 else 0.2))
        random.to({"f16": torch.float16, "bf16": torch.bfloat16}.get(name.split()[-1], torch.float32))
        random.save_pretrained(folder / name, max_shard_size="20KB" if "shards" in name else "1GB")
        model = LanguageModel.from_pretrained(folder / name)
        compare_with_transformers(table, name, "transformers to here", model, folder / name)
        exchange(table, name, ModelBundle(model, tokenizer), folder, llama_cpp)
    for seed, (name, fields) in enumerate(AXONE.items()):
        rng = np.random.default_rng(seed)
        model = LanguageModel(LanguageModelConfig(**fields), rng=rng).eval()
        for parameter in model.parameters():
            parameter.data += rng.normal(0, 0.1, parameter.shape).astype(np.float32)
        exchange(table, name, ModelBundle(model, tokenizer), folder, llama_cpp)


def exchange(table: Table, name: str, bundle: ModelBundle, folder: Path, llama_cpp: Path | None) -> None:
    """Write a tiny model as folders and as a GGUF file, and compare what the peers compute from them."""
    for label, dtype in (("f32", np.float32), ("f16", np.float16)):
        out = folder / f"{name} {label}"
        bundle.write(out, dtype=dtype)
        written = bundle.model if label == "f32" else LanguageModel.from_pretrained(out)
        compare_with_transformers(table, name, f"here to transformers, {label}", written, out)
    if bundle.model.config.position == "rotary" and llama_cpp is not None:
        bundle.write_gguf(folder / "model.gguf", dtype="f32")
        ids = prompts(bundle.model)
        theirs, texts = peers.decode_in_llama_cpp(llama_cpp, folder / "model.gguf", ids, 64, TEXTS)
        table.decoded(name, "here to llama.cpp", peers.decode_here(bundle.model, ids, 64), theirs, limit=1e-4)
        table.equal(name, "here to llama.cpp, ids", [bundle.tokenizer.encode(text) for text in TEXTS], texts)


def prompts(model: LanguageModel) -> list[list[int]]:
    """Return random prompts of 24 tokens."""
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (2, 24))
    return [list(map(int, row)) for row in ids]


def compare_with_transformers(table: Table, name: str, what: str, model: LanguageModel, folder: Path) -> None:
    """Compare logits and greedy tokens of a model with those that transformers computes from a folder."""
    other, _, messages = peers.open_in_transformers(folder)
    ids = prompts(model)
    ours, theirs = peers.decode_here(model, ids, 64), peers.decode_in_transformers(other, ids, 64)
    table.decoded(name, what, ours, theirs, messages=messages)


def smollm2(table: Table, path: Path, folder: Path, llama_cpp: Path | None) -> None:
    """Compare SmolLM2 as transformers reads the same file, then the folder and the GGUF files that are written from it."""
    name, bundle = "SmolLM2", open_bundle(path)
    tokenizer = subword(bundle)
    question: Message = {"role": "user", "content": "What is the capital of France?"}
    chat = bundle.chat_template.encode([question], tokenizer, add_generation_prompt=True)
    ids = [chat, tokenizer.encode("The three laws of thermodynamics are")]
    ours = peers.decode_here(bundle.model, ids, 200)
    print(tokenizer.decode(ours[0].ids[:20]).strip())
    model, theirs, _ = peers.open_in_transformers(path)
    table.decoded(name, "the same .gguf", ours, peers.decode_in_transformers(model, ids, 200), SMOLLM2_LOGITS)
    compare_ids(table, name, "the same .gguf", tokenizer, theirs)
    del model
    bundle.write(folder / "folder")
    model, theirs, messages = peers.open_in_transformers(folder / "folder")
    read = peers.decode_in_transformers(model, ids, 200)
    table.decoded(name, "exported folder", ours, read, SMOLLM2_LOGITS, messages)
    compare_ids(table, name, "exported folder", tokenizer, theirs)
    rendered = theirs.apply_chat_template([question], add_generation_prompt=True, return_dict=False)
    table.equal(name, "exported folder, ids of a rendered chat", chat, list(rendered))
    with peers.recorded_warnings() as messages:
        text = theirs.decode(model.generate(torch.tensor([chat]), do_sample=False, max_new_tokens=20)[0])
    table.equal(name, "exported folder, warnings of generate", messages, [])
    table.add(name, "exported folder, end of generate", f"{text[-20:]!r}", passed=text.endswith("Paris.<|im_end|>"))
    del model
    if llama_cpp is None:
        return
    for dtype, limit in (("f32", SMOLLM2_LOGITS), ("f16", 0.1), ("q8_0", 2.0)):
        file = folder / f"{dtype}.gguf"
        bundle.write_gguf(file, dtype=dtype)
        exact = dtype == "f32"  # llama.cpp multiplies float16 and Q8_0 with activations that are rounded alike
        read = ours if exact else peers.decode_here(open_bundle(file).model, ids, 0)
        decoded, texts = peers.decode_in_llama_cpp(llama_cpp, file, ids, 200 if exact else 0, TEXTS)
        table.decoded(name, f"exported {file.name} in llama.cpp", read, decoded, limit)
        table.equal(name, f"exported {file.name}, ids", [tokenizer.encode_ordinary(text) for text in TEXTS], texts)
        file.unlink()


def compare_ids(table: Table, name: str, what: str, ours: SubwordTokenizer, theirs: Any) -> None:
    """Compare the ids of texts, with special tokens as such and as ordinary text, and the texts of the ids."""
    special = frozenset(ours.special_tokens)
    table.equal(
        name,
        f"{what}, ids of texts",
        [(ours.encode_ordinary(text), ours.encode(text, allowed_special=special)) for text in TEXTS],
        [
            tuple(theirs.encode(text, add_special_tokens=False, split_special_tokens=split) for split in (True, False))
            for text in TEXTS
        ],
    )
    ids = [ours.encode_ordinary(text) for text in TEXTS]
    table.equal(
        name, f"{what}, decoded texts", [ours.decode(each) for each in ids], [theirs.decode(each) for each in ids]
    )


def subword(bundle: ModelBundle) -> SubwordTokenizer:
    """Return the tokenizer of a bundle, which must have special tokens."""
    if not isinstance(bundle.tokenizer, SubwordTokenizer):
        raise TypeError(f"the tokenizer ({type(bundle.tokenizer).__name__}) must be a SubwordTokenizer")
    return bundle.tokenizer


def trained(table: Table, folder: Path, llama_cpp: Path | None, steps: int) -> None:
    """Train a Llama and a Qwen3 with BPE tokenizers, and open the checkpoints of the runs as they are."""
    text = python_source()[:1_500_000]
    tokenizer = BPETokenizer.train([text], 1024)
    train, validation = TokenDataset.from_text(text, tokenizer).split(validation=0.1)
    plan = preset("llama")
    for name in ("trained Llama", "trained Qwen3"):
        config = replace(plan.model_config(tokenizer.vocab_size), qk_norm=name.endswith("Qwen3"))
        model = LanguageModel(config, rng=np.random.default_rng(0))
        length = config.context_length
        run = Run(folder / name)
        end = Trainer(model, train, validation, plan.trainer_config(length, steps=steps), run=run.path).fit()
        other, theirs, messages = peers.open_in_transformers(run.latest().path)
        table.equal(name, "class in transformers", type(other).__name__, f"{name.split()[1]}ForCausalLM")
        tokens = np.asarray(validation.tokens)
        starts = validation.sequence_starts(length)
        inputs, targets = (tokens[starts[:, None] + np.arange(length) + shift] for shift in (0, 1))
        loss, ours = peers.loss_in_transformers(other, inputs, targets), end.validation_loss or 0.0
        table.add(name, "checkpoint, validation loss", f"{ours:.6f}, {loss:.6f}", passed=abs(ours - loss) <= 1e-5)
        compare_ids(table, name, "checkpoint", tokenizer, theirs)
        bundle = open_bundle(run.latest().path)
        ids = [tokenizer.encode(prompt) for prompt in ("def ", "import os\n\nclass ")]
        decoded = peers.decode_here(bundle.model, ids, 64)
        read = peers.decode_in_transformers(other, ids, 64)
        table.decoded(name, "checkpoint", decoded, read, 1e-4, messages)
        if llama_cpp is not None:
            bundle.write_gguf(folder / "model.gguf", dtype="f32")
            read, texts = peers.decode_in_llama_cpp(llama_cpp, folder / "model.gguf", ids, 64, TEXTS)
            table.decoded(name, "exported f32.gguf in llama.cpp", decoded, read, limit=1e-4)
            table.equal(
                name, "f32.gguf, text", [tokenizer.decode(each.ids) for each in decoded], [e.text for e in read]
            )
            table.equal(name, "f32.gguf, ids", [tokenizer.encode(text) for text in TEXTS], texts)


if __name__ == "__main__":
    sys.exit(main())
