"""Check of the tree: refuse files that silently break the workspace, and documented commands that CI does not run."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
REASONS = {
    r"(^|/)axone/__init__\.py$": "hides all sibling layers: `axone` is a namespace",
    r"(^|/)tests/(.*/)?__init__\.py$": "makes pytest drop tests silently",
    r"(^|/)uv\.lock$": "names the package index of the machine that wrote it",
}


def misplaced(files: list[str]) -> list[str]:
    """Return an error message for each file that must not exist."""
    return [f"{file} {why}" for file in files for name, why in REASONS.items() if re.search(name, file)]


def unknown_commands() -> list[str]:
    """Return an error message for each command in the README's last two sections that CI does not run."""
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Documentation")[2]
    commands = [line for block in re.findall(r"```sh\n(.*?)```", readme, re.DOTALL) for line in block.splitlines()]
    if not commands:
        return ["README.md must have the commands that build the documentation and check a change"]
    return [f"README.md says `{command}`, which CI does not run" for command in commands if command not in ci]


def main() -> None:
    """Exit with all errors."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    files = listed.stdout.splitlines()
    found = misplaced(files) + unknown_commands()
    if found:
        sys.exit("\n".join(found))
    print(f"{len(files)} files, none of them misplaced")


if __name__ == "__main__":
    main()
