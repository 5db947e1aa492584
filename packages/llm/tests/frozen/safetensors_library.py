"""Makes library.safetensors: what the safetensors library writes of the arrays of `ARRAYS` (safetensors 0.8.0).

python safetensors_library.py
"""

from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

ARRAYS: dict[str, NDArray[Any]] = {
    "zeta": np.arange(6, dtype=np.float32).reshape(2, 3),
    "alpha": np.linspace(0, 1, 5),
    "größe": np.array(2.5, np.float16),
    "none": np.zeros((0, 3), np.int64),
    "yes": np.array([True, False]),
    "bytes": np.arange(3, dtype=np.uint8),
    "steps": np.array(7),
    "wide": np.array([[1]], np.uint32),
    "small": np.array([-1, 1], np.int16),
}

if __name__ == "__main__":
    Path(__file__).with_name("library.safetensors").write_bytes(safetensors.numpy.save(ARRAYS, {"format": "pt"}))
