"""Makes chat_templates.json: what transformers renders from chat templates with each feature that models' templates use.

    python chat_templates.py        (transformers 5.23.0, jinja2 3.1.6)

A template that refuses the messages has `null` as its text.
"""

import itertools
import json
from pathlib import Path

import jinja2
from transformers.utils.chat_template_utils import render_jinja_template  # type: ignore[import-not-found]  # a peer

CONVERSATIONS = [
    [{"role": "user", "content": " Hi "}],
    [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Hi é <|im_end|>"},
        {"role": "assistant", "content": "<think>\nx\n</think>\n\nYes"},
        {"role": "user", "content": "more\n"},
    ],
    [{"role": role, "content": text} for role, text in zip(["user", "assistant"] * 2, "abcd")],
]
TEMPLATES = [
    # turns of the kinds that ChatML, Llama 2, Llama 3, Gemma, Phi, Zephyr and DeepSeek have
    (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    (
        "{%- if messages[0].role == 'system' %}{%- set start = '<<SYS>>' + messages[0].content + '<</SYS>>' %}"
        "{%- set rest = messages[1:] %}{%- else %}{%- set start = '' %}{%- set rest = messages %}{%- endif %}\n"
        "{%- for m in rest %}\n  {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}\n"
        "  {{- bos_token + '[INST] ' + (start if loop.first else '') + m.content.strip() + ' [/INST]' if m.role == 'user' "
        "else ' ' + m.content | trim + ' ' + eos_token }}\n{%- endfor %}"
    ),
    (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}{{ bos_token }}"
        "{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
        "{{ m['content'] | trim }}<end_of_turn>\n{% endfor %}"
    ),
    (
        "{% for m in messages %}\n{% if m.role == 'user' %}\n<|user|>\n{{ m.content }}{{ eos_token }}\n{% else %}\n"
        "<|{{ m.role }}|>\n{{ m.content }}\n{% endif %}\n{% endfor %}\n"
    ),
    (
        "{%- set ns = namespace(last=messages|length - 1, seeking=true) %}{%- for m in messages[::-1] %}"
        "{%- set index = (messages|length - 1) - loop.index0 %}"
        "{%- if ns.seeking and m.role == 'user' and m.content is string and not m.content.startswith('<tool') %}"
        "{%- set ns.seeking = false %}{%- set ns.last = index %}{%- endif %}{%- endfor %}{%- for m in messages %}"
        "{%- set content, thought = m.content, '' %}{%- if m.role == 'assistant' and '</think>' in content %}"
        "{%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
        "{%- set content = content.split('</think>')[-1].lstrip('\n') %}{%- endif %}{{- m.role + ':' + content }}"
        "{%- if loop.index0 > ns.last %}{{- '(' + thought + ')' }}{%- endif %}{%- endfor %}"
    ),
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    # filters
    "{{ messages|map(attribute='role')|join(', ') }} {{ messages|map(attribute='content')|map('upper')|list|tojson }}",
    (
        "{{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ messages|join('|', attribute='role') }} "
        "{{ messages|rejectattr('role', 'in', ['user'])|map(attribute='content')|first }}"
    ),
    "{% for k, v in {'b': 1, 'a': [1, 2.5, none, true]}|dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in {'b': 1, 'a': {'c': 'é\"\\\\'}}.items() %}{{ k }}{{ v|tojson(indent=2) }}{% endfor %}",
    (
        "{{ {'b': 1, 'a': 2}|items|list }} {{ 'é'|tojson(ensure_ascii=true) }} "
        "{{ {'b': 'x', 'a': 2}|tojson(sort_keys=true, separators=(',', ':')) }}"
    ),
    "{{ 'a b-c d'|title }} {{ 'aBC'|capitalize }} {{ 'xxaxx'|trim('x') }} {{ 'abc'|reverse }} {{ [1, 2]|reverse|list }}",
    "{{ 'a\nb\n\nc'|indent(4) }} {{ 'a\nb'|indent(2, first=true) }} {{ 'a\n\nb'|indent('--', true, true) }}",
    "{{ 3|string + 'x' }} {{ '42'|int + 1 }} {{ '4.5'|float }} {{ 'x'|int(7) }} {{ -3|abs }} {{ [3, 1, 2]|sort }}",
    "{{ [3, 1]|max }} {{ ['b', 'A']|sort|join }} {{ [1, 2]|last }} {{ ['a', 1]|join('-') }} {{ [0, 1]|select|list }}",
    "{{ [1, 2, 3]|select('odd')|list }} {{ [1, 2]|reject('eq', 1)|list }} {{ 'aaa'|replace('a', 'b', 2) }}",
    "{{ nothing }}|{{ nothing|default('d') }}|{{ ''|default('e', true) }}|{{ nothing is defined }}",
    # tests
    "{{ none is none }} {{ 1 is number }} {{ 'x' is string }} {{ [] is iterable }} {{ {} is mapping }} {{ 3 is odd }}",
    "{{ 'x' is sequence }} {{ true is boolean }} {{ 4 is divisibleby 2 }} {{ 'a' is in 'abc' }} {{ 1 is eq 1 }}",
    "{{ 'A' is upper }} {{ 1 is sameas 1 }} {{ 1 is integer }} {{ 1.5 is float }} {{ true is true }} {{ [] is callable }}",
    # methods
    "{{ 'a,b,c'.split(',') }} {{ ' a b '.split() }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'a\nb'.splitlines() }}",
    "{{ 'abcb'.find('b') }} {{ 'abcb'.rfind('b') }} {{ 'abcb'.count('b') }} {{ 'abc'.startswith(('x', 'a')) }}",
    "{{ 'abc'.removeprefix('a') }} {{ '-'.join(['a', 'b']) }} {{ 'aaa'.replace('a', '--', 1) }} {{ 'ab'.upper().title() }}",
    "{{ {'a': 1}.get('b', 'c') }} {{ {'a': 1}.keys()|list }} {{ {'a': 1}.values()|list }} {{ [1, 2, 1].count(1) }}",
    # operators
    "{{ 10 // 3 }} {{ 10 % 3 }} {{ 2 ** 8 }} {{ 7 / 2 }} {{ 'ab' * 3 }} {{ [1] * 2 + [3] }} {{ 'x' ~ 1 ~ none ~ [1] }}",
    "{{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ messages == messages[:] }} {{ messages[0] in messages }} {{ 'a' not in 'x' }}",
    "{{ 'abc'[::-1] }} {{ 'abc'[-1] }} {{ messages[0]['content'][:2] }} {{ messages[99] }} {{ messages[0].nothing }}",
    "{{ 1 if false }} {{ 'a' if 1 and 0 or 2 else 'b' }} {{ not true }} {{ 1_000 }} {{ 'a' 'b' }} {{ {1: 'x'}[1] }}",
    "{{ {'a': [1, (2, 3)], 'b': {'c': none}} }} {{ (1, 2) }} {{ messages[0] }} {{ dict(a=1) }} {{ range(1, 9, 3)|list }}",
    # statements
    (
        "{% macro f(a, b=2) %}[{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{{ caller() if caller }}]{% endmacro %}"
        "{{ f(1) }}{{ f(1, 3, 4, c=5) }}{% call f('z') %}inner{% endcall %}"
    ),
    (
        "{% set ns = namespace(n=0, l=[]) %}{% for i in range(5) if i % 2 == 0 %}{% set ns.n = ns.n + i %}"
        "{% set ns.l = ns.l + [i] %}{{ loop.index0 }}{{ loop.revindex }}{{ loop.last }}{{ loop.previtem }}{{ loop.nextitem }}"
        "{{ loop.cycle('a', 'b') }}{{ loop.changed(i) }}{% else %}none{% endfor %}{{ ns.n }}{{ ns.l }}"
    ),
    "{% for x in [[1, [2]], [3]] recursive %}{{ x if x is number else loop(x) }}{% endfor %}",
    (
        "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}"
        "{% endfor %}{% for x in [] %}x{% else %}empty{% endfor %}"
    ),
    (
        "{% set b %}block {{ 1 }}{% endset %}{{ b|upper }}{% filter upper %}abc{% endfilter %}"
        "{% with a=1, b='x' %}{{ a }}{{ b }}{% endwith %}{% set c | trim %}  y {% endset %}{{ c }}"
    ),
]


def rendered(template: str, messages: list[dict[str, str]], add_generation_prompt: bool) -> str | None:
    """Return the text that transformers renders, or None where the template refuses."""
    options = {"bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": add_generation_prompt}
    try:
        texts, _ = render_jinja_template([messages], chat_template=template, **options)
    except jinja2.TemplateError:
        return None
    return str(texts[0])


CASES = [
    {
        "template": template,
        "messages": messages,
        "add_generation_prompt": prompt,
        "text": rendered(template, messages, prompt),
    }
    for template, messages, prompt in itertools.product(TEMPLATES, CONVERSATIONS, (False, True))
]
Path(__file__).with_suffix(".json").write_text(json.dumps(CASES, ensure_ascii=False, indent=0), encoding="utf-8")
