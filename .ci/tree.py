"""Refuses files that would break the workspace in silence."""

import re
import subprocess
import sys

REASONS = {
    r"(^|/)axone/__init__\.py$": "hides all sibling layers: `axone` is a namespace",
    r"(^|/)tests/(.*/)?__init__\.py$": "two of these drop tests without a word",
    r"(^|/)uv\.lock$": "names the package index of the machine that wrote it",
}


def main() -> None:
    """Exit with every tracked file that must not be there."""
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True)
    found = [
        f"{file} {why}" for file in listed.stdout.splitlines() for name, why in REASONS.items() if re.search(name, file)
    ]
    if found:
        sys.exit("\n".join(found))
    print(f"{len(listed.stdout.splitlines())} files, none that must not be there")


if __name__ == "__main__":
    main()
