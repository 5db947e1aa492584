"""The public names of axone.llm, and unique names of its classes."""

import ast
from collections import Counter
from pathlib import Path

import axone.llm


def test_every_public_name_exists_and_is_listed_once() -> None:
    assert all(hasattr(axone.llm, name) for name in axone.llm.__all__)
    assert len(set(axone.llm.__all__)) == len(axone.llm.__all__)


def test_no_two_classes_have_the_same_name() -> None:
    """Progress, Outcome, Step and Place each named two classes."""
    paths = Path(str(axone.llm.__file__)).parent.rglob("*.py")
    nodes = (node for path in paths for node in ast.parse(path.read_text(encoding="utf-8")).body)
    counts = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
    assert [name for name, count in counts.items() if count > 1] == []
