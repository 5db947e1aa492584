"""Test of the import contracts: plant forbidden imports in a copy of the tree and expect each to be refused.

`python .ci/layers.py FOLDER` copies into an empty or missing folder.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLANTS = [  # (package of the importing module, imported module, contract that forbids it)
    ("axone.autograd", "axone.nn", "layers point down"),
    ("axone.nn", "axone.llm", "layers point down"),
    ("axone.llm", "axone.cli", "layers point down"),
    ("axone.nn", "axone.tokenizer", "layers point down"),
    ("axone.tokenizer", "axone.autograd", "the tokenizer stands alone"),
    ("axone.llm.storage", "axone.llm.training.trainer", "subpackages of axone.llm point down"),
    ("axone.llm.runtime", "axone.llm.generation.generate", "subpackages of axone.llm point down"),
    ("axone.nn", "axone.autograd.tensor", "only public modules of axone.autograd are imported"),
    ("axone.llm", "axone.autograd.optim.adam", "only public modules of axone.autograd are imported"),
    ("axone.cli", "axone.llm.training.trainer", "only public modules of axone.llm are imported"),
    ("axone.llm", "axone.nn.module", "only public modules of axone.nn are imported"),
    ("axone.llm", "axone.nn.functional.softmax", "only public modules of axone.nn are imported"),
    ("axone.llm", "axone.tokenizer.bpe", "only axone.tokenizer itself is imported"),
]


def refused(folder: Path, package: str, imported: str, contract: str) -> bool:
    """Return whether lint-imports reports the contract as broken once the import is planted in a copy."""
    shutil.copytree(ROOT / "packages", folder / "packages")
    shutil.copy(ROOT / "pyproject.toml", folder)
    sources = [str(path) for path in sorted(folder.glob("packages/*/src"))]
    planted = folder / f"packages/{package.split('.')[1]}/src" / package.replace(".", "/") / "planted.py"
    planted.write_text(f"import {imported}\n", encoding="utf-8")
    result = subprocess.run(
        [shutil.which("lint-imports") or "lint-imports", "--no-cache"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sources)},  # before the workspace's own packages
        capture_output=True,
        text=True,
        check=False,
    )
    named = f"{package}.planted -> {imported}" in result.stdout and f"{contract} BROKEN" in result.stdout
    if result.returncode == 0 or not named:
        print(result.stdout, result.stderr)
    return result.returncode != 0 and named


def main() -> None:
    """Plant each import; exit with the first that is not refused."""
    for number, (package, imported, contract) in enumerate(PLANTS):
        if not refused(Path(sys.argv[1]) / str(number), package, imported, contract):
            sys.exit(f"`import {imported}` planted in {package} did not break '{contract}'")
        print(f"`import {imported}` planted in {package} is refused")


if __name__ == "__main__":
    main()
