"""Tests of the sandbox of chat templates: what it renders, what it refuses, and its bounds on time and memory."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from axone.llm import ChatTemplate, ChatTemplateError, Message
from axone.llm.chat.budget import Budget

FROZEN = json.loads((Path(__file__).parent / "frozen/chat_templates.json").read_text(encoding="utf-8"))
MESSAGES: list[Message] = [{"role": "user", "content": "Hi"}]


def rendered(template: str, **variables: Any) -> str:
    return ChatTemplate(template).render(MESSAGES, **variables)


@pytest.mark.parametrize("case", FROZEN, ids=lambda case: case["template"][:40])
def test_templates_give_the_text_that_transformers_renders(case: dict[str, Any]) -> None:
    template = ChatTemplate(case["template"], bos_token="<s>", eos_token="</s>")  # noqa: S106 - spellings
    messages, prompt = case["messages"], case["add_generation_prompt"]
    if case["text"] is None:
        with pytest.raises(ChatTemplateError):
            template.render(messages, add_generation_prompt=prompt)
    else:
        assert template.render(messages, add_generation_prompt=prompt) == case["text"]


def test_a_conversation_of_a_million_characters_is_rendered() -> None:
    template = ChatTemplate(FROZEN[4 * 6]["template"])
    assert "</think>" in template.text
    messages: list[Message] = [
        {"role": "user", "content": "word " * 100},
        {"role": "assistant", "content": "word " * 100},
    ]
    assert len(template.render(messages * 1000)) > 1_000_000
    assert len(template.render([{"role": "user", "content": "word " * 200_000}])) > 1_000_000


def test_the_size_of_a_value_counts_a_shared_list_at_each_place() -> None:
    budget, shared = Budget(), ["text"]
    once, twice = budget.size([shared]), budget.size([shared, shared])
    assert twice - once >= budget.size(shared)
    deep: list[object] = [shared]
    for _ in range(40):
        deep = [deep, deep]
    assert budget.size(deep) > 2**40
    assert budget.size({"a": deep}.items()) > 2**40


def test_the_reason_of_a_template_is_one_short_line() -> None:
    with pytest.raises(ChatTemplateError) as caught:
        rendered("{{ raise_exception('no\n' * 9999) }}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("{% include '/etc/passwd' %}", "Include"),
        ("{% import 'os' as os %}", "Import"),
        ("{% from 'os' import path %}", "FromImport"),
        ("{% extends 'x' %}", "Extends"),
        ("{% block a %}{{ self.a() }}{% endblock %}", "Block"),
        ("{% autoescape true %}{% endautoescape %}", "Scope"),
    ],
)
def test_a_statement_that_templates_do_not_need_is_refused(statement: str, name: str) -> None:
    with pytest.raises(ChatTemplateError, match=f"holds the statement {name},"):
        rendered(statement)


REACHING = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__ }}",
    "{{ range.__globals__ }}",
    "{{ raise_exception.__globals__['sys'] }}",
    "{{ strftime_now.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ dict.__base__ }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ lipsum.__globals__['os'].popen('id') }}",
    "{{ self.__init__.__globals__ }}",
    "{{ ''|attr('__class__') }}",
    "{{ 'x'.format_map({}) }}",
    "{{ '{0.__class__}'.format(1) }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'role': 'x'}) }}",
]


@pytest.mark.parametrize("template", REACHING)
def test_a_template_that_reaches_for_python_is_refused(template: str) -> None:
    with contextlib.suppress(ChatTemplateError):
        assert rendered(template) == ""  # an undefined value


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in messages %}" * 25 + "{% endfor %}" * 25,
        "{% if messages %}" * 120 + "{% endif %}" * 120,
        "{{ dict(a=1, a=2) }}",
        "{{ 1e999 | int }}",
        "x" * ((1 << 16) + 1),
    ],
)
def test_a_template_that_python_cannot_compile_is_refused(template: str) -> None:
    with pytest.raises(ChatTemplateError, match=r"the chat template (has 65537 characters|fails|cannot render)"):
        rendered(template)
