"""Test of the import contracts: plant forbidden imports in a copy of the tree and expect each to be refused.

`python .ci/layers.py FOLDER` copies into an empty or missing folder.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLANTS = [  # (importing package, imported module, contract that forbids it)
    ("autograd", "axone.nn", "layers point down"),
    ("nn", "axone.llm", "layers point down"),
    ("nn", "axone.tokenizer", "layers point down"),
    ("tokenizer", "axone.autograd", "the tokenizer stands alone"),
    ("nn", "axone.autograd.tensor", "only public modules of axone.autograd are imported"),
    ("llm", "axone.autograd.optim.adam", "only public modules of axone.autograd are imported"),
    ("llm", "axone.nn.module", "only public modules of axone.nn are imported"),
    ("llm", "axone.nn.functional.softmax", "only public modules of axone.nn are imported"),
    ("llm", "axone.tokenizer.bpe", "only axone.tokenizer itself is imported"),
]


def refused(folder: Path, member: str, imported: str, contract: str) -> bool:
    """Return whether lint-imports reports the contract as broken once the import is planted in a copy."""
    shutil.copytree(ROOT / "packages", folder / "packages")
    shutil.copy(ROOT / "pyproject.toml", folder)
    sources = [str(path) for path in sorted(folder.glob("packages/*/src"))]
    planted = folder / f"packages/{member}/src/axone/{member}/planted.py"
    planted.write_text(f"import {imported}\n", encoding="utf-8")
    result = subprocess.run(
        [shutil.which("lint-imports") or "lint-imports", "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sources)},  # before the workspace's own packages
        capture_output=True,
        text=True,
        check=False,
    )
    named = f"axone.{member}.planted -> {imported}" in result.stdout and f"{contract} BROKEN" in result.stdout
    if result.returncode == 0 or not named:
        print(result.stdout, result.stderr)
    return result.returncode != 0 and named


def main() -> None:
    """Plant each import; exit with the first that is not refused."""
    for number, (member, imported, contract) in enumerate(PLANTS):
        if not refused(Path(sys.argv[1]) / str(number), member, imported, contract):
            sys.exit(f"`import {imported}` planted in axone.{member} did not break '{contract}'")
        print(f"`import {imported}` planted in axone.{member} is refused")


if __name__ == "__main__":
    main()
