"""Named arrays as safetensors files: no pickle, written durably."""

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from axone.llm.errors import CheckpointError
from axone.llm.files import write_file

State: TypeAlias = dict[str, NDArray[Any]]


def write_arrays(path: Path, arrays: State) -> None:
    """Write named arrays as a safetensors file, durably."""
    contiguous = {name: np.array(array, order="C", ndmin=array.ndim) for name, array in arrays.items()}
    write_file(path, safetensors.numpy.save(contiguous, metadata={"format": "pt"}))


def read_arrays(path: Path) -> State:
    """Read the named arrays of a safetensors file.

    Raises
    ------
    CheckpointError
        If it is not there or not such a file.
    """
    try:
        return safetensors.numpy.load(path.read_bytes())
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror})") from error
    except safetensors.SafetensorError as error:
        raise CheckpointError(path, f"is not a whole safetensors file ({error})") from error
