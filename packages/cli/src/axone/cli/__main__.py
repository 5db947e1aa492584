"""`python -m axone.cli`: the command `axone`, where it is not on the path."""

import sys

from axone.cli import main

if __name__ == "__main__":
    sys.exit(main())
