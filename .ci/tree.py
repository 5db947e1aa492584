"""Check of the tree: misplaced files, documented commands that differ from those of CI, incomplete changelogs, and imports of missing names."""

import ast
import csv
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent
REASONS = {
    r"(^|/)axone/__init__\.py$": "hides all sibling layers: `axone` is a namespace",
    r"(^|/)tests/(.*/)?__init__\.py$": "makes pytest drop tests silently",
    r"(^|/)uv\.lock$": "names the package index of the machine that wrote it",
}
TABLE_ROW = re.compile(r"^\| (?P<task>.+?) \| `just (?P<recipe>\w+)` \| `(?P<command>.+)` \|$", re.MULTILINE)
PLACEHOLDERS = [  # what stands for a folder or an interpreter in CI and in the justfile
    (r'"\$\(mktemp -d\)"|"\$work/\w+"|"\$RUNNER_TEMP/\w+"|"\$\{1:\?.*?\}"', "FOLDER"),
    (r"\{\{ python \}\}", "PYTHON"),
    (r" \{\{ \w+ \}\}", ""),  # further arguments
]


def read(name: str) -> str:
    """Return the text of a file of the repository, with placeholders for folders and interpreters."""
    text = (ROOT / name).read_text(encoding="utf-8")
    for pattern, placeholder in PLACEHOLDERS:
        text = re.sub(pattern, placeholder, text)
    return text


def misplaced(files: list[str]) -> Iterator[str]:
    """Yield an error for each file that must not exist."""
    yield from (f"{file} {why}" for file in files for name, why in REASONS.items() if re.search(name, file))


def documented_commands() -> Iterator[str]:
    """Yield an error for each command of CONTRIBUTING.md, README.md or the justfile that differs from those of CI."""
    ci = read(".ci/run") + read(".github/workflows/ci.yml")
    checked, _, unchecked = read("CONTRIBUTING.md").partition("CI does not run them")
    rows = {row["recipe"]: row["command"] for row in TABLE_ROW.finditer(checked)}
    if not rows or not TABLE_ROW.search(unchecked):
        yield "CONTRIBUTING.md must have a table of tasks that CI runs, and one of tasks that CI does not run"
    yield from (
        f"CONTRIBUTING.md has `{command}`, which CI does not run" for command in rows.values() if command not in ci
    )
    rows |= {row["recipe"]: row["command"] for row in TABLE_ROW.finditer(unchecked)}
    recipes = dict(re.findall(r"^(\w+)(?: [\w* ]+)?:\n    ([^\s@].*)$", read("justfile"), re.MULTILINE))
    for name in sorted(rows.keys() | recipes.keys()):
        if rows.get(name) != recipes.get(name):
            yield f"task {name} is `{rows.get(name)}` in CONTRIBUTING.md and `{recipes.get(name)}` in the justfile"
    readme = read("README.md").partition("## Documentation")[2]
    commands = [line for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) for line in block.splitlines()]
    if not commands:
        yield "README.md must have the commands that build the documentation and check a change"
    yield from (f"README.md has `{command}`, which CI does not run" for command in commands if command not in ci)


def changelogs() -> Iterator[str]:
    """Yield an error for each package whose changelog lacks its version or a section for unreleased changes."""
    for project in sorted(ROOT.glob("packages/*/pyproject.toml")):
        version = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
        path = project.with_name("CHANGELOG.md")
        headings = re.findall(r"^## (.+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if not headings or not headings[0].startswith("Unreleased"):
            yield f"{path.relative_to(ROOT)} must begin with a section '## Unreleased'"
        if not any(version in re.split(r"[ ()]+", heading) for heading in headings):
            yield f"{path.relative_to(ROOT)} must have a section for version {version}, which pyproject.toml has"


def figures() -> Iterator[str]:
    """Yield an error for each row of the README's table of speed that the documentation's table does not have."""
    with (ROOT / "docs/guide/speed.csv").open(encoding="utf-8", newline="") as file:
        measured = {(row["Axone"], row["other"], row["ratio"]) for row in csv.DictReader(file)}
    rows = re.findall(
        r"^\| (.+?) \| (.+?) \| (.+?) \| ([\d.]+) \|$", read("README.md").partition("## Start")[0], re.MULTILINE
    )
    if not rows:
        yield "README.md must have the table of speed"
    yield from (
        f"README.md has '{work}', whose figures docs/guide/speed.csv lacks"
        for work, *row in rows
        if tuple(row) not in measured
    )


def missing_imports() -> Iterator[str]:
    """Yield an error for each name that a benchmark imports from axone and that does not exist.

    Type checkers do not read the benchmarks, because their peers are not installed.
    """
    for path in sorted((ROOT / "benchmarks").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("axone."):
                for alias in node.names:
                    if not exists(node.module, alias.name):
                        where = f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"
                        yield f"{where} imports {alias.name} from {node.module}, which does not exist"


def exists(module: str, name: str) -> bool:
    """Return whether a module exists and has a name or a submodule of that name."""
    try:
        return hasattr(import_module(module), name) or find_spec(f"{module}.{name}") is not None
    except ModuleNotFoundError:
        return False


def main() -> None:
    """Exit with all errors."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = listed.stdout.splitlines()
    found = [*misplaced(files), *documented_commands(), *changelogs(), *figures(), *missing_imports()]
    if found:
        sys.exit("\n".join(found))
    print(f"{len(files)} files: none misplaced, commands, changelogs and figures agree")


if __name__ == "__main__":
    main()
