"""Tests of chat data whose template renders a turn otherwise once others follow."""

import json
from pathlib import Path
from typing import Any

from axone.llm import ChatTemplate, Conversations
from axone.tokenizer import BPETokenizer

SPECIAL = ("<|im_start|>", "<|im_end|>")
TOKENIZER = BPETokenizer.train("user assistant system hello " * 9, 280, special_tokens=SPECIAL)
THINKING = (  # as that of Qwen3: an answer before the last question loses its thoughts
    "{% set ns = namespace(last=0) %}{% for m in messages if m.role == 'user' %}{% set ns.last = ns.last + 1 %}{% endfor %}"
    "{% set n = namespace(seen=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set n.seen = n.seen + 1 %}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1] if n.seen < ns.last else m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THOUGHTS = [
    {"role": "user", "content": "Hello"},
    {"role": "assistant", "content": "<think>greet</think>Good day"},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "<think>end</think>Bye"},
]


def read(tmp_path: Path, *lines: Any, context_length: int | None = None) -> Conversations:
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return Conversations.from_jsonl(path, TOKENIZER, ChatTemplate(THINKING), context_length=context_length)


def learned(data: Conversations, index: int) -> list[str]:
    return [text for text, is_learned in data.pieces(index) if is_learned]


def test_answers_whose_turns_are_rendered_otherwise_later_are_sequences_of_their_own(tmp_path: Path) -> None:
    data = read(tmp_path, {"messages": THOUGHTS})
    template = ChatTemplate(THINKING)
    assert len(data) == 2
    for index, answer in enumerate((1, 3)):
        prompt: Any = THOUGHTS[:answer]
        ids = data.ids[data.starts[index] : data.starts[index + 1]].tolist()
        begin = template.encode(prompt, TOKENIZER, add_generation_prompt=True)
        assert ids[: len(begin)] == begin  # the prompt of a chat at this turn
        assert learned(data, index) == [THOUGHTS[answer]["content"] + "<|im_end|>"]
    assert "greet" not in TOKENIZER.decode(data.ids[data.starts[1] :].tolist())
    plain = [{**message, "content": message["content"].split("</think>")[-1]} for message in THOUGHTS]
    assert len(read(tmp_path, {"messages": plain})) == 1


def test_all_answers_of_a_conversation_are_held_out_together(tmp_path: Path) -> None:
    names = "abcdefghij"
    lines = [
        {"messages": [{**message, "content": name + message["content"]} for message in THOUGHTS]} for name in names
    ]
    train, validation = read(tmp_path, *lines).split(0.3)
    assert (len(train), len(validation)) == (14, 6)
    held_out = {learned(validation, index)[0][0] for index in range(6)}
    assert len(held_out) == 3
    assert not held_out & {learned(train, index)[0][0] for index in range(14)}


def test_a_conversation_of_which_some_answers_fit_is_cut(tmp_path: Path) -> None:
    whole = read(tmp_path, {"messages": THOUGHTS})
    first, second = whole.lengths.tolist()
    assert first < second
    data = read(tmp_path, {"messages": THOUGHTS}, context_length=first)
    assert (len(data), data.num_cut, data.num_left_out) == (1, 1, 0)
