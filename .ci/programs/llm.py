"""What someone writes who has installed axone-llm alone; `mypy --strict` reads the types from the installed wheel."""

import axone.llm as layer

if not layer.__doc__:
    raise SystemExit("the package must say what it is")
