"""Refuse coined words and riddles in headlines, messages and names, as CONTRIBUTING.md explains.

`python .ci/words.py` checks all .py, .rst and .md files against the table in words.toml; `python .ci/words.py FOLDER`
also copies the tree into an empty or missing folder, plants coined words there and expects each to be refused.
"""

import ast
import io
import re
import shutil
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

HERE = Path(__file__).parent
ROOT = HERE.parent
CHECKED = ("packages", "apps", "benchmarks", "docs", ".ci", "*.md")
GENERATED = {"_build", "_drawings", "generated", "gallery", ".venv", "__pycache__", "dist", "build", "runs"}
LONGEST = 22  # words in the first line of a docstring

Kind: TypeAlias = Literal["headline", "error", "help", "log", "comment", "docstring", "page", "name"]
TABLES: dict[Kind, tuple[str, ...]] = {  # the tables of words.toml that hold for a kind of text
    "headline": ("text", "short", "headline"),
    "error": ("text", "short", "error"),
    "help": ("text", "short", "help"),
    "log": ("text", "short"),
    "comment": ("text",),
    "docstring": ("text",),
    "page": ("text",),
    "name": ("name",),
}
PLANTS = [  # (file, text that is appended to it, the word that must be refused)
    ("packages/llm/src/axone/llm/loss.py", 'def planted() -> None:\n    """Where forked processes meet."""\n', "Where"),
    ("packages/nn/src/axone/nn/linear.py", 'def planted() -> None:\n    raise ValueError("it goes on")\n', "goes on"),
    ("packages/tokenizer/tests/test_char.py", "def test_in_company() -> None: ...\n", "company"),
    ("packages/cli/src/axone/cli/train.py", '"""A line."""\nprint("threads are lent")\n', "lent"),
    ("packages/cli/src/axone/cli/sample.py", 'parser.add_argument("--n", help="windows in a batch")\n', "windows"),
    ("docs/index.rst", "\nWhat holds\n----------\n", "What"),
    ("README.md", "\n## How fast it is\n", "How"),
    ("packages/llm/src/axone/llm/meeting_point.py", "", "meeting"),
]


@dataclass(frozen=True)
class Passage:
    """One checked piece of text and its position."""

    kind: Kind
    file: str
    line: int
    text: str


@dataclass(frozen=True)
class Entry:
    """One refused pattern."""

    pattern: re.Pattern[str]
    instead: str
    example: str


def read_tables() -> tuple[dict[str, list[Entry]], dict[str, list[str]]]:
    """Return the entries of each table of words.toml, and the sentences that must pass."""
    tables = tomllib.loads((HERE / "words.toml").read_text(encoding="utf-8"))
    allowed = tables.pop("allowed")
    entries = {
        table: [Entry(re.compile(pattern, re.IGNORECASE), *pair) for pattern, pair in rows.items()]
        for table, rows in tables.items()
    }
    return entries, allowed


ENTRIES, ALLOWED = read_tables()


def words_of(name: str) -> str:
    """Return the words of an identifier in lower case: `FoldCache` and `fold_cache` give `fold cache`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_+|-+|\.", " ", name).strip().lower()


def literal(node: ast.expr) -> str:
    """Return the text of all string literals in an expression, with {} for each inserted value."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join("{}" if isinstance(part, ast.FormattedValue) else literal(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return literal(node.left) + literal(node.right)
    if isinstance(node, ast.IfExp):
        return f"{literal(node.body)} {literal(node.orelse)}"
    return ""


def arguments(call: ast.Call) -> Iterator[ast.expr]:
    """Yield the arguments of a call, without those that a raised error takes from a nested call."""
    yield from call.args
    yield from (keyword.value for keyword in call.keywords)


def called(node: ast.Call) -> str:
    """Return the last name of the function in a call."""
    match node.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def python_passages(file: str, source: str) -> Iterator[Passage]:
    """Yield the headlines, messages, names and comments of a Python file."""
    tests = "/tests/" in file  # errors raised there are stand-ins for those of the system
    for node in ast.walk(ast.parse(source, file)):
        match node:
            case ast.Module() | ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                docstring = ast.get_docstring(node)
                line = getattr(node, "lineno", 1)
                if docstring:
                    headline, _, body = docstring.partition("\n")
                    yield Passage("headline", file, line, headline)
                    yield Passage("docstring", file, node.body[0].lineno + 1, body)
                if not isinstance(node, ast.Module):
                    yield Passage("name", file, line, node.name)
            case ast.Raise(exc=ast.Call() as call) if not tests:
                for argument in arguments(call):
                    yield Passage("error", file, argument.lineno, literal(argument))
            case ast.Call() if called(node) in {"error", "exit"}:
                for argument in arguments(node):
                    yield Passage("error", file, argument.lineno, literal(argument))
            case ast.Call() if called(node) in {"add_argument", "add_argument_group", "add_parser", "CommandParser"}:
                for keyword in node.keywords:
                    if keyword.arg == "help":
                        yield Passage("help", file, keyword.value.lineno, literal(keyword.value))
                    elif keyword.arg in {"description", "epilog", "title"}:
                        yield Passage("log", file, keyword.value.lineno, literal(keyword.value))
            case ast.Dict() if file.startswith(
                "packages/cli/"
            ):  # tables of options: "steps": (int, "number of updates")
                for value in node.values:
                    if isinstance(value, ast.Tuple) and value.elts:
                        yield Passage("help", file, value.elts[-1].lineno, literal(value.elts[-1]))
            case ast.Call() if called(node) in {"print", "warn", "warning", "info", "debug", "write"}:
                for argument in arguments(node):
                    yield Passage("log", file, argument.lineno, literal(argument))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Passage("comment", file, token.start[0], token.string.lstrip("#: "))


def page_passages(file: str, source: str) -> Iterator[Passage]:
    """Yield the titles and the paragraphs of an .rst or .md file, without code."""
    lines = source.splitlines()
    fenced, paragraph, begin = False, list[str](), 1
    for number, line in enumerate([*lines, ""], 1):
        fenced ^= line.lstrip().startswith("```")
        below = lines[number].rstrip() if number < len(lines) else ""
        title = re.match(r"#+ ", line) or (line.strip() and re.fullmatch(r"([=~^\"*#-])\1{2,}", below))
        if title and not fenced:
            yield Passage("headline", file, number, line.lstrip("# "))
        elif not fenced and line.strip() and not line.lstrip().startswith((">>>", "...", "$ ")):
            begin = begin if paragraph else number
            paragraph.append(line)
            continue
        yield Passage("page", file, begin, "\n".join(paragraph))
        paragraph = []


def passages(root: Path) -> Iterator[Passage]:
    """Yield all text under a root that is checked."""
    for pattern in CHECKED:
        for top in sorted(root.glob(pattern)):
            for path in [top] if top.is_file() else sorted(top.rglob("*")):
                relative = path.relative_to(root)
                if path.suffix not in {".py", ".rst", ".md"} or GENERATED & set(relative.parts):
                    continue
                source, file = path.read_text(encoding="utf-8"), relative.as_posix()
                yield Passage("name", file, 1, path.stem)
                yield from python_passages(file, source) if path.suffix == ".py" else page_passages(file, source)


def faults(passage: Passage) -> list[str]:
    """Return a sentence for each refused pattern in a passage."""
    text = words_of(passage.text) if passage.kind == "name" else passage.text.replace("\n", " ")
    found = []
    for table in TABLES[passage.kind]:
        for entry in ENTRIES[table]:
            for match in entry.pattern.finditer(text):
                line = passage.line + passage.text[: match.start()].count("\n")
                word = match.group().strip()
                found.append(f"{passage.file}:{line}: '{word}' in a {passage.kind}: write {entry.instead}")
    if passage.kind == "headline" and passage.file.endswith(".py"):
        length = len(re.findall(r"[^\W\d_]{2,}", text))
        if length > LONGEST:
            found.append(f"{passage.file}:{passage.line}: a headline has {length} words: at most {LONGEST}")
    return found


def check_tables() -> None:
    """Exit with the entries whose example passes, and the allowed sentences that are refused."""
    kinds: dict[str, Kind] = {
        "text": "comment",
        "headline": "headline",
        "error": "error",
        "help": "help",
        "name": "name",
    }
    wrong = [
        f"words.toml: '{entry.example}' is not refused by {entry.pattern.pattern}"
        for table, entries in ENTRIES.items()
        for entry in entries
        if not entry.pattern.search(words_of(entry.example) if table == "name" else entry.example)
    ]
    for table, sentences in ALLOWED.items():
        for sentence in sentences:
            wrong += faults(Passage(kinds[table], "words.toml", 1, sentence))
    if wrong:
        sys.exit("\n".join(wrong))


def plant(folder: Path) -> None:
    """Plant coined words in a copy of the tree; exit if one is not refused."""
    for name in ("packages", "apps", "docs", ".ci", "README.md"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(*GENERATED))
        else:
            shutil.copy(source, folder / name)
    for file, text, _ in PLANTS:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        with (folder / file).open("a", encoding="utf-8") as target:
            target.write(text)
    command = [sys.executable, str(folder / ".ci/words.py")]
    result = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    before = {fault for passage in passages(ROOT) for fault in faults(passage)}
    planted = [line for line in result.stderr.splitlines() if line not in before]
    for file, text, word in PLANTS:
        if not any(line.startswith(f"{file}:") and f"'{word}" in line for line in planted):
            sys.exit(f"{text!r} planted in {file}: '{word}' was not refused")
        print(f"'{word}' planted in {file} is refused")
    if result.returncode == 0:
        sys.exit("coined words must give an exit status other than 0")


def main() -> None:
    """Check the tree; with a folder as argument, plant coined words in a copy, too."""
    check_tables()
    texts = list(passages(ROOT))
    found = [fault for passage in texts for fault in faults(passage)]
    if found:
        sys.exit("\n".join(found))
    print(f"{len(texts)} headlines, messages, names and comments in the field's words")
    if sys.argv[1:]:
        plant(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
