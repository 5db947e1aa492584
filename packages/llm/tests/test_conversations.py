"""Chat data: the shapes of files, loss masks for many templates, cuts between turns, batches, and faults named by line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from axone.autograd import no_grad
from axone.llm import ChatTemplate, CheckpointError, Conversations, DataError, LanguageModel, LanguageModelConfig
from axone.llm.data.training_data import IGNORED, MaskedBatch
from axone.llm.loss import batch_loss
from axone.tokenizer import BPETokenizer, CharTokenizer

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|eot|>", "<s>", "</s>", "<end_of_turn>", "<think>", "</think>")
TOKENIZER = BPETokenizer.train("user assistant system hello " * 9, 280, special_tokens=SPECIAL)
CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    "chatml": (CHATML, "<|im_end|>"),
    "llama 3": (
        (
            "{% for m in messages %}{{ '<s>' if loop.first }}[{{ m.role }}]\n\n{{ m.content | trim }}<|eot|>{% endfor %}"
            "{% if add_generation_prompt %}[assistant]\n\n{% endif %}"
        ),
        "<|eot|>",
    ),
    "llama 2": (
        (
            "{% for m in messages %}{% if m.role == 'user' %}<s>[INST] {{ m.content }} [/INST]{% else %} {{ m.content }} </s>"
            "{% endif %}{% endfor %}"
        ),
        " </s>",
    ),
    "gemma": (
        (
            "<s>{% for m in messages %}<|im_start|>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}"
            "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}"
        ),
        "<end_of_turn>",
    ),
    "zephyr, marks without special tokens": (
        (
            "{% for m in messages %}## {{ m.role }}\n{{ m.content }}\n\n{% endfor %}"
            "{% if add_generation_prompt %}## assistant\n{% endif %}"
        ),
        "\n\n",
    ),
    "an answer is always begun": (
        "{% for m in messages %}<s>{{ m.role }}\n{{ m.content }}</s>\n{% endfor %}<s>assistant{{ '\n' }}",
        "</s>",
    ),
}
DIALOGUE = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "Good day to you"},
    {"role": "user", "content": "  And <|im_end|> now?\n"},
    {"role": "assistant", "content": "é: <|im_end|> is\nfor </s> ever"},
]


def read(
    tmp_path: Path, *lines: Any, template: str | None = CHATML, tokenizer: Any = TOKENIZER, **options: Any
) -> Conversations:
    path = tmp_path / "chats.jsonl"
    text = "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines)
    path.write_text(text, encoding="utf-8")
    return Conversations.from_jsonl(path, tokenizer, None if template is None else ChatTemplate(template), **options)


def learned(data: Conversations, index: int = 0) -> list[str]:
    return [text for text, is_learned in data.pieces(index) if is_learned]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_learned_tokens_are_the_assistants_texts_and_turn_ends(name: str, tmp_path: Path) -> None:
    template, end = TEMPLATES[name]
    data = read(tmp_path, {"messages": DIALOGUE}, template=template)
    before = " " if name == "llama 2" else ""
    assert learned(data) == [before + message["content"] + end for message in DIALOGUE[1::2]]
    whole = ChatTemplate(template).render(DIALOGUE)  # type: ignore[arg-type]  # a list of plain dicts
    assert whole.startswith("".join(text for text, _ in data.pieces(0)))


def test_a_special_token_in_a_message_is_ordinary_text(tmp_path: Path) -> None:
    data = read(tmp_path, {"messages": DIALOGUE})
    special = [id for id in data.ids.tolist() if id in TOKENIZER.special_tokens.values()]
    assert len(special) == 2 * 5  # the template's own: system and four turns
    ends = data.ids[data.trained].tolist().count(TOKENIZER.special_tokens["<|im_end|>"])
    assert ends == 2


def test_prompt_and_answer_are_encoded_apart_as_in_generation(tmp_path: Path) -> None:
    template = ChatTemplate(CHATML)
    data = read(tmp_path, {"messages": DIALOGUE[:2]})
    prompt = template.encode(DIALOGUE[:1], TOKENIZER, add_generation_prompt=True)  # type: ignore[arg-type]  # likewise
    assert data.ids[: len(prompt)].tolist() == prompt
    assert not data.trained[: len(prompt)].any()
    assert data.trained[len(prompt) :].all()


def test_the_shapes_are_recognised(tmp_path: Path) -> None:
    turns = {"messages": DIALOGUE[:2]}
    pair = {"prompt": "Hello", "completion": "Good day to you"}
    parts = {"prompt": DIALOGUE[:1], "completion": DIALOGUE[1:2]}
    expected = read(tmp_path, turns)
    for shape in (pair, parts, {**turns, "source": 1}):
        np.testing.assert_array_equal(read(tmp_path, shape).ids, expected.ids)
    plain = read(tmp_path, pair, template=None)
    assert list(plain.pieces(0)) == [("Hello", False), ("Good day to you", True)]
    assert list(read(tmp_path, {"text": "Hello you"}).pieces(0)) == [("Hello you", True)]
    assert list(read(tmp_path, "", {"text": "Hi ho"}, "  ").pieces(0)) == [("Hi ho", True)]
    characters = CharTokenizer.train("abc ")
    assert list(read(tmp_path, {"text": "a b"}, template=None, tokenizer=characters).pieces(0)) == [("a b", True)]


def test_a_folder_of_texts_is_learned_whole(tmp_path: Path) -> None:
    for name, text in (("a.txt", "Hello you"), ("b.txt", "Good day to you all, and to me")):
        (tmp_path / name).write_text(text, encoding="utf-8")
    data = Conversations.from_jsonl(tmp_path, TOKENIZER, None, context_length=4)
    assert data.trained.all()
    first = data.ids[data.starts[:-1]]
    assert max(data.lengths) == 4
    texts = [TOKENIZER.encode(text) for text in ("Hello you", "Good day to you all, and to me")]
    assert data.num_targets == sum(len(ids) - 1 for ids in texts)  # each token but the first is predicted once
    assert first[0] == texts[0][0]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"text": "a"}', "{text}"], r"chats.jsonl, line 2: is not JSON \(Expecting property name"),
        (["[1, 2]"], "line 1: is not a JSON object, and must have messages, prompt and completion, or text"),
        (["", '{"chat": 1, "id": 2}'], "line 2: has the keys chat, id, and must have messages"),
        (
            ['{"text": "a"}', '{"prompt": "a", "completion": "b"}'],
            "line 2: has prompt and completion, and the lines before",
        ),
        (['{"messages": []}'], "line 1: messages must be a list of at least one message"),
        (['{"messages": [{"role": "user"}]}'], "line 1: a message must have a role and a content"),
        (
            [{"messages": [{"role": "bot", "content": "x"}]}],
            "line 1: role 'bot' is unknown: use system, user, assistant or",
        ),
        ([{"messages": DIALOGUE[:1]}], "line 1: no message is the assistant's"),
        ([{"messages": [{"role": "assistant", "content": 3}]}], "line 1: content must be a text, not 3"),
        ([{"text": None}], "line 1: text must be a text, not None"),
        ([], "is empty: write one JSON object per line"),
    ],
)
def test_a_fault_is_named_by_its_line(lines: list[Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, *lines)


def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.jsonl: cannot be read"):
        Conversations.from_jsonl(tmp_path / "none.jsonl", TOKENIZER, None)
    with pytest.raises(DataError, match="has no conversation with an answer: add"):
        read(tmp_path, {"text": ""})
    (tmp_path / "bytes.jsonl").write_bytes(b'{"text": "a"}\n\xff\n')
    with pytest.raises(DataError, match=r"is not valid UTF-8"):
        Conversations.from_jsonl(tmp_path / "bytes.jsonl", TOKENIZER, None)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, "line 1: the model has no chat template"),
        (
            "{{ messages[0].content }}",
            "line 1: the chat template does not render the assistant's text after the beginning",
        ),
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "does not render the assistant's text"),
        (
            "{{ raise_exception('no such role') }}",
            "line 1: the chat template cannot render these messages: no such role",
        ),
    ],
)
def test_a_template_without_turns_is_refused(template: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, {"messages": DIALOGUE}, template=template)


def test_long_conversations_are_cut_after_an_answer_and_counted(tmp_path: Path) -> None:
    whole = read(tmp_path, {"messages": DIALOGUE})
    ends = np.flatnonzero(np.diff(np.append(whole.trained, False).astype(int)) == -1) + 1
    full, first = len(whole.ids), int(ends[0])
    for context in range(4, full + 3):
        if context + 1 < first:
            with pytest.raises(DataError, match="has no conversation with an answer that fits into"):
                read(tmp_path, {"messages": DIALOGUE}, context_length=context)
            continue
        data = read(tmp_path, {"messages": DIALOGUE}, context_length=context)
        assert len(data.ids) == (full if context + 1 >= full else first)
        assert data.num_cut == (context + 1 < full)
        assert learned(data) == learned(whole)[: 2 if context + 1 >= full else 1]
    short = {"messages": DIALOGUE[:2]}
    data = read(
        tmp_path, short, {"messages": [{"role": "user", "content": "long " * 99}, DIALOGUE[1]]}, context_length=first
    )
    assert (len(data), data.num_cut, data.num_left_out) == (1, 0, 1)


def many(tmp_path: Path, count: int = 23, longest: int = 30) -> Conversations:
    rng = np.random.default_rng(0)
    lines = [
        {"prompt": "x" * int(rng.integers(1, longest)), "completion": "y" * int(rng.integers(1, 9))}
        for _ in range(count)
    ]
    return read(tmp_path, *lines, template=None)


@pytest.mark.parametrize("batch_size", [1, 4, 23, 40])
def test_every_conversation_comes_once_per_epoch_in_another_order(batch_size: int, tmp_path: Path) -> None:
    data = many(tmp_path)
    batches = -(-len(data) // batch_size)
    epochs = []
    for epoch in range(2):
        numbers = range(epoch * batches, (epoch + 1) * batches)
        dealt = [data.deal(5, number, batch_size, 64, "epoch", 1)[0] for number in numbers]
        assert sorted(np.concatenate(dealt).tolist()) == list(range(len(data)))
        assert data.targets_of_batches(5, numbers, batch_size, 64) == data.num_targets
        epochs.append([frozenset(batch.tolist()) for batch in dealt])
        again = [data.deal(5, number, batch_size, 64, "epoch", 2) for number in numbers]
        for one, shards in zip(dealt, again, strict=True):
            assert sorted(np.concatenate(shards).tolist()) == sorted(one.tolist())
            assert abs(len(shards[0]) - len(shards[1])) <= 1
    assert batches == 1 or epochs[0] != epochs[1]


def test_packing_is_chosen_where_it_wastes_less(tmp_path: Path) -> None:
    similar = read(tmp_path, *({"text": "x" * (40 + i % 2)} for i in range(32)), template=None)
    assert not similar.is_packed(8)
    mixed = read(tmp_path, *({"text": "x" * (80 if i % 8 == 0 else 8)} for i in range(32)), template=None)
    assert mixed.is_packed(8)
    batch = mixed.read(mixed.deal(0, 0, 8, 128, "epoch", 1)[0], 128)
    assert batch.mask is not None
    assert len(batch.inputs) < 8


@pytest.fixture
def small() -> LanguageModel:
    config = LanguageModelConfig.llama(
        vocab_size=TOKENIZER.vocab_size, context_length=128, num_layers=2, num_heads=2, num_kv_heads=1, embed_dim=16,
        hidden_dim=32,
    )  # fmt: skip
    model = LanguageModel(config, rng=np.random.default_rng(0)).astype(np.float64)
    for parameter in model.parameters():
        parameter.data *= 3
    return model.eval()


def gradient(model: LanguageModel, batch: MaskedBatch) -> tuple[float, list[Any]]:
    for parameter in model.parameters():
        parameter.grad = None
    loss = batch_loss(model, batch)
    loss.backward()
    return loss.item(), [parameter.grad for parameter in model.parameters()]


def test_no_conversation_attends_to_another(small: LanguageModel, tmp_path: Path) -> None:
    """Loss and gradient of a packed and of a padded batch are those of its conversations one by one."""
    data = many(tmp_path)
    packed = np.array([0, 3, 5, 8, 11, 13])
    batch = data.read(packed, 128)
    assert batch.mask is not None
    one_by_one = [gradient(small, data.read(np.array([index]), 128)) for index in packed]
    weights = [data.count_targets(np.array([index]), 128) / data.count_targets(packed, 128) for index in packed]
    loss, grads = gradient(small, batch)
    assert loss == pytest.approx(sum(w * each for w, (each, _) in zip(weights, one_by_one, strict=True)))
    for place, grad in enumerate(grads):
        expected = sum(w * each[place] for w, (_, each) in zip(weights, one_by_one, strict=True))
        np.testing.assert_allclose(grad, expected, atol=1e-12)


@pytest.mark.parametrize("longest", [2, 30])
def test_a_system_message_is_computed_once_for_all_rows(small: LanguageModel, tmp_path: Path, longest: int) -> None:
    """Loss and gradient are those of the conversations one by one, in rows of their own and packed."""
    rng = np.random.default_rng(0)
    lines = [
        {
            "messages": [
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": "ab"[number % 2] * int(rng.integers(1, longest))},
                {"role": "assistant", "content": "y" * int(rng.integers(1, longest))},
            ]
        }
        for number in range(6)
    ]
    data = read(tmp_path, *lines)
    numbers = np.arange(6)
    batch = data.read(numbers, 128)
    assert batch.prefix is not None
    assert data.tokenizer.decode(batch.prefix.tolist()).endswith("be brief<|im_end|>\n<|im_start|>user\n")
    assert (batch.mask is None) is (longest == 2)
    parts = [data.read(np.array([index]), 128) for index in numbers]
    assert all(part.prefix is None for part in parts)
    one_by_one = [gradient(small, part) for part in parts]
    weights = [data.count_targets(np.array([index]), 128) / data.count_targets(numbers, 128) for index in numbers]
    loss, grads = gradient(small, batch)
    assert loss == pytest.approx(sum(w * each for w, (each, _) in zip(weights, one_by_one, strict=True)))
    for place, grad in enumerate(grads):
        expected = sum(w * each[place] for w, (_, each) in zip(weights, one_by_one, strict=True))
        np.testing.assert_allclose(grad, expected, atol=1e-12)


def test_an_answer_is_never_part_of_the_prefix(tmp_path: Path) -> None:
    data = read(tmp_path, *({"text": "the same text " * 9 + end} for end in "ab"), template=None)
    assert data.read(np.arange(2), 256).prefix is None


def test_the_loss_is_that_of_the_learned_positions_of_all_logits(small: LanguageModel, tmp_path: Path) -> None:
    data = many(tmp_path)
    batch = data.read(np.arange(4), 128)
    with no_grad():
        logits = small.transformer(small.embedding(batch.inputs), mask=batch.mask, positions=batch.positions).data
        logits = logits @ small.output_weight.data.T
    logits -= logits.max(axis=-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    counted = batch.targets != IGNORED
    expected = -log_p[counted][np.arange(counted.sum()), batch.targets[counted]].mean()
    assert batch_loss(small, batch).item() == pytest.approx(expected)
    assert counted.sum() == data.count_targets(np.arange(4), 128)


def test_splitting_holds_out_conversations_and_loses_none(tmp_path: Path) -> None:
    data = many(tmp_path)
    train, validation = data.split(0.2, seed=1)
    assert (len(train), len(validation)) == (18, 5)
    assert train.num_targets + validation.num_targets == data.num_targets
    texts = sorted(
        "".join(text for text, _ in part.pieces(i)) for part in (train, validation) for i in range(len(part))
    )
    assert texts == sorted("".join(text for text, _ in data.pieces(i)) for i in range(len(data)))
    with pytest.raises(ValueError, match="a split needs two conversations"):
        train.select([0]).split()


def test_conversations_longer_than_the_context_are_refused(tmp_path: Path) -> None:
    data = many(tmp_path)
    with pytest.raises(
        ValueError, match=r"context_length \(3\) must be at least the length of the longest conversation"
    ):
        data.require(3)
    data.require(int(data.lengths.max()))


def swapped(content: bytes) -> bytes:
    return content.replace(b"trained", b"trainee")


@pytest.mark.parametrize("damage", [swapped, lambda content: content[:-1], lambda _: b""])
def test_stored_conversations_come_back_or_are_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    data = many(tmp_path)
    data.write(tmp_path / "data")
    again = Conversations.open(tmp_path / "data", TOKENIZER)
    for one, other in ((data.ids, again.ids), (data.trained, again.trained), (data.starts, again.starts)):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(CheckpointError, match="holds ids that the tokenizer lacks"):
        Conversations.open(tmp_path / "data", CharTokenizer.train("ab"))
    (tmp_path / "data").write_bytes(damage((tmp_path / "data").read_bytes()))
    with pytest.raises(CheckpointError):
        Conversations.open(tmp_path / "data", TOKENIZER)
