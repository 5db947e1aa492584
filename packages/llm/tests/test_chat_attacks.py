"""Tests of hostile chat templates: each ends soon, with one error, and without much memory.

As a program, this file renders them in a process of its own, whose memory is measured.
"""

import json
import re
import subprocess
import sys
import time

import pytest

from axone.llm import ChatTemplate, ChatTemplateError, Message

MESSAGES: list[Message] = [{"role": "user", "content": "Hi"}] * 3
MOST_BYTES = 200 << 20
MOST_SECONDS = 10  # of the processor: 1.3 s were measured

STATE = "{% set n = namespace(s='a' * 1000, l=[1], m=[1], t=(1,), d={'a': 1}, i=3) %}"
MACRO = "{% macro f() %}{% endmacro %}"


def repeated(body: str, times: int = 99_999) -> str:
    return "{% for i in range(" + str(times) + ") %}" + body + "{% endfor %}"


LISTS = STATE + repeated("{% set n.l = [n.l, n.l] %}{% set n.m = [n.m, n.m] %}", 40)
TUPLES = STATE + repeated("{% set n.t = (n.t, n.t) %}", 40)
DICTS = STATE + repeated("{% set n.d = {'a': n.d, 'b': n.d} %}", 40)
COLLIDING = ",".join(f"{k} * {2**61 - 1}" for k in range(9, 900))  # numbers of one hash

SHARED = [
    *("{{ n.l | string }}", "{{ n.l }}", "{{ n.l | tojson }}", "{{ n.l | tojson(indent=4) }}", "{{ n.l | join }}"),
    *("{{ n.l ~ '' }}", "{{ n.l | upper }}", "{{ n.l | title }}", "{{ n.l | trim }}", "{{ n.l | safe }}"),
    *("{{ n.l | replace('1', '2') }}", "{{ n.l.count(2) }}", "{{ n.l.index(2) }}", "{{ raise_exception(n.l) }}"),
    *("{{ strftime_now(n.l) }}", "{{ [n.l] | map('string') | list }}", "{{ [n.l, n.m] | sort }}", "{{ n.l is lower }}"),
    *("{{ n.l == n.m }}", "{{ n.l < n.m }}", "{{ n.l in [n.m] }}", "{{ 2 in n.l }}", "{{ n.l is eq(n.m) }}"),
    *("{{ [n.l] | select('in', [n.m]) | list }}", "{{ [n.l, n.m] | min }}", "{{ n.l | sum(start=[]) }}"),
    "{% for x in [n.l, n.m] %}{{ loop.changed(x) }}{% endfor %}",
    "{% macro f() %}{{ varargs }}{% endmacro %}{{ f(n.l) }}",
    "{% set b %}{{ n.l }}{% endset %}",
    "{% filter upper %}{{ n.l }}{% endfilter %}",
]
HASHED = [
    *("{{ {}.get(n.t) }}", "{{ {}[n.t] }}", "{{ {n.t: 1} }}", "{{ n.t in {} }}", "{{ n.t in {}.keys() }}", "{{ n.t }}"),
    *("{{ [{}] | map(attribute=n.t) | list }}", "{{ 'a'.startswith(n.t) }}", "{{ [n.t] | unique | list }}"),
]
NESTED = [
    *(
        "{{ n.d }}",
        "{{ n.d | tojson(sort_keys=true) }}",
        "{{ n.d | dictsort }}",
        "{{ n.d.items() }}",
        "{{ n.d.values() }}",
    ),
    *("{{ n.d.items() | list }}", "{{ n.d | items | list }}", "{{ [1] in n.d.values() }}{{ n.d.values() }}"),
]
GROWING = [
    *(
        "{% set n.s = n.s ~ n.s %}",
        "{% set n.s = n.s + n.s %}",
        "{% set n.s = n.s * 3 %}",
        "{% set n.s = [n.s] * 2 | join %}",
    ),
    *(
        "{% set n.s = ''.join([n.s, n.s]) %}",
        "{% set n.s = n.s.replace('a', 'aa') %}",
        "{% set n.s = [n.s] | string %}",
    ),
    *(
        "{% set n.s = n.s | tojson %}",
        "{% set b %}{{ n.s }}{{ n.s }}{% endset %}{% set n.s = b %}",
        "{% set n.i = n.i * n.i %}",
    ),
    *("{% set n.l = n.l + n.l %}", "{% set n.l = [n.l, 'a' * 1000000 ~ i] %}", "{% set n.l = [n.l] %}{{ n.l }}"),
    *(
        "{% set n.l = [n.l, range(99999) | list] %}",
        "{% set n.l = n.l | map('string') %}",
        "{% set n.l = [n.l, 'ﬃ' * 999 ~ i] %}",
    ),
]
LOOPS = [
    *("{% for b in range(99999) %}{% endfor %}", "{% for b in range(99999) %}x{% endfor %}", "y" * 60_000),
    *("{{ 0.5 in range(99999) }}", "{{ ('a' * 9000)[1:] }}", "{{ range(99999) | reverse | list | sort | length }}"),
    *("{{ messages == messages[:] }}" * 9, "{{ messages | map(attribute='content') | map('upper') | list | join }}"),
    *("{{ ([1] * 999) | tojson }}", "{{ ('a' * 999 ~ i) == ('a' * 999 ~ i) }}", "{{ i" + " < i" * 900 + " }}"),
    *("{% if not i %}" + "{% elif not i %}" * 300 + "{% endif %}", "{% if i %}{% endif %}" * 900, "{{i}}" * 3000),
    *("{{ 'b' ~ 'a' * 15000 in 'a' * 29999 }}", "{{ ('a' * 29999).rfind('b' ~ 'a' * 15000) }}"),
    *("{% set x | title %}" + "a " * 20_000 + "{% endset %}", "{{ ('f' * 999) | int(0, 16) }}"),
    *(
        "{% set x = {" + COLLIDING.replace(",", ":1,") + ":1} %}",
        "{% set x = namespace([[" + COLLIDING[:19] + ", 1]]) %}{{ 1/0 }}",
    ),
]
LARGE = [  # a large value at once
    *("{{ 'a' * 9999999999 }}", "{{ 9999999999 * 'a' }}", "{{ [0] * 9999999999 }}", "{{ range(10 ** 15) | list }}"),
    *("{{ 10 ** 100000 }}", "{{ 7 ** 64 ** 64 }}", "{{ 0x" + "f" * 60_000 + " }}", "{{ " + "9" * 60_000 + " }}"),
    *("{{ ('9' * 9000000) | int }}", "{{ (5).to_bytes(1000000000, 'big') }}", "{{ '%2000000000d' is odd }}"),
    *(
        "{{ '%2000000000d' is divisibleby 3 }}",
        "{{ ['%2000000000d'] | select('even') | list }}",
        "{{ '%2000000000d' % 1 }}",
    ),
    *(
        "{{ '%2000000000d' | format(1) }}",
        "{{ '{:2000000000}'.format(1) }}",
        "{{ '{a:2000000000}'.format_map({'a': 1}) }}",
    ),
    *("{{ 'a'.ljust(2000000000) }}", "{{ 'a' | center(2000000000) }}", "{{ 'a'.zfill(2000000000) }}"),
    *("{{ '\t'.expandtabs(2000000000) }}", "{{ 'a'.translate({97: 'b'}) }}", "{{ 'a' | indent(2000000000) }}"),
    *("{{ ('a\n' * 9000000) | indent(60) }}", "{{ 15 | round(-9999999999) }}", "{{ 1 | filesizeformat }}"),
    *("{{ [1] | batch(999999999, 'x') | list }}", "{{ [1] | slice(999999999) | list }}", "{{ lipsum(999999) }}"),
    *("{{ [1] | tojson(indent=9999999999) }}", "{{ [1, 2] | tojson(separators=('a' * 1000000, 'b')) }}"),
    *("{{ ('ш' * 5000000) | list }}", "{{ ('ш ' * 3000000).split() }}", "{{ ('ш\n' * 3000000).splitlines() }}"),
    *("{{ ('ш ' * 2000000) | title }}", "{{ ('é' * 26000000).upper() }}", "{{ (['\\x00' * 9000000]) | tojson }}"),
    *(
        "{{ ['\\x00' * 9000000, '\U0001f600'] }}",
        "{{ 'a' * 60000000 ~ '\U0001f600' }}",
        "{{ range(99999) | join('a' * 1000) }}",
    ),
    *("{{ ('a' * 60000000 ~ 'b').replace('b', '\U0001f600') }}", "{{ ('a' * 9000000).replace('', 'bbbb') }}"),
    *("{{ ('a' * 400000).strip('b' * 400000 ~ 'a') }}", "{{ ('a' * 600000).rfind('b' ~ 'a' * 300000) }}"),
    *(
        "{{ ('a' * 900000) | map('list') | list | string }}",
        "{{ (['aa'] * 90000) | map(attribute='" + "0." * 9999 + "0') | list }}",
    ),
    STATE + "{% set n.l = [1] * 10000 %}" + repeated("{% set n.l = [n.l] %}", 200) + "{{ n.l | tojson(indent=64) }}",
    STATE + "{% set n.n = n %}{{ n.n | tojson }}",  # a cycle
    "{% for a in range(99999) if [" + "i," * 20_000 + "] == 1 %}{% endfor %}",
    "{% for a in range(99999) if " + " and ".join(["not i"] * 100) + " and i %}{% endfor %}" * 30,
    "{% for a in range(99999) | map('string') %}" * 2 + "{{ loop.length }}" + "{% endfor %}" * 2,
    "{% for x in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f(k) %}{% if k %}{{ f(k - 1) }}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}",
    MACRO + "{{ f(*('ш' * 30000000)) }}",
    MACRO + "{% call f(*('ш' * 30000000)) %}{% endcall %}",
    "{{ 'a' | replace(*('ш' * 30000000)) }}",
]
PROGRAMS = [  # a program that takes long to compile
    *(
        "{{ " + "(" * 30_000 + "1" + ")" * 30_000 + " }}",
        "{{ " + "+".join("1" * 30_000) + " }}",
        "{{ a" + ".a" * 30_000 + " }}",
    ),
    *(
        "{{ " + "not " * 15_000 + "1 }}",
        "{% for a in b %}" * 2000 + "{% endfor %}" * 2000,
        "{{ 1" + "|d" * 30_000 + " }}",
    ),
    *(
        "{% if a %}" + "{% elif a %}" * 5000 + "{% endif %}",
        "{{a.b}}" * 9000,
        "{{ " + "1_" * 30_000 + " }}",
        "{#" * 30_000,
    ),
    *("{{ [" + "1," * 30_000 + "] }}", "{% generation %}" * 900 + "{% endgeneration %}" * 900, "x" * 100_000_000),
    "".join(f"{{{{a{k}}}}}" for k in range(4900)) + "{{ 1/0 }}",
]
TEMPLATES = [
    *(LISTS + use for use in SHARED),
    *(TUPLES + use for use in HASHED),
    *(DICTS + use for use in NESTED),
    *(STATE + repeated(body) for body in (*GROWING, *LOOPS)),
    *(*LARGE, *PROGRAMS),
]


def main() -> None:
    """Write a line of JSON per template: its error, seconds of the processor, and the largest memory of the process so far."""
    begin = peak_bytes()
    for template in TEMPLATES:
        start = time.process_time()
        try:
            error = f"no error, and {len(ChatTemplate(template).render(MESSAGES))} characters"
        except ChatTemplateError as caught:
            error = str(caught)
        sys.stdout.write(json.dumps([error, time.process_time() - start, peak_bytes() - begin]) + "\n")


def peak_bytes() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.fixture(scope="module")
def results() -> list[tuple[str, float, int]]:
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, timeout=900, check=True)
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(TEMPLATES)), ids=lambda number: TEMPLATES[number][-60:])
def test_a_hostile_template_ends_with_an_error_and_bounded_memory(
    results: list[tuple[str, float, int]], number: int
) -> None:
    error, seconds, peak = results[number]
    assert re.fullmatch(r"the chat template (cannot|fails|has)[^\n]{1,500}", error)
    assert seconds < MOST_SECONDS
    assert peak < MOST_BYTES


if __name__ == "__main__":
    main()
