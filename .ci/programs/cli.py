"""A user's program with axone installed: `mypy --strict` reads the types from the wheel."""

from typing import assert_type

from axone.cli import main

assert_type(main(["--version"]), int)
if main(["trian"]) != 2:
    raise SystemExit("an unknown command must give exit status 2")
