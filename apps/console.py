"""What the apps share: exit codes, and errors as one sentence instead of a traceback."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

from axone.llm import CheckpointError, RunExistsError, TrainingDivergedError

SUCCESS, USER_ERROR, INTERRUPTED, TERMINATED = 0, 2, 130, 143


class UserError(Exception):
    """What the user can put right; its message is the last line that the app prints."""


def run(main: Callable[[], int]) -> int:
    """Run an app and return its exit code."""
    try:
        return main()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SUCCESS
    except (UserError, CheckpointError, RunExistsError, TrainingDivergedError) as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename or 'the disk'}: {error.strerror or error}"
    sentence = " ".join(message.split())
    print(f"{Path(sys.argv[0]).name}: error: {sentence}", file=sys.stderr)
    return USER_ERROR
