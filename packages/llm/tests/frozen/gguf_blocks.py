"""Makes gguf_blocks.npz: random blocks of every quantized type that is read, and what the gguf package makes of them.

    python gguf_blocks.py        (gguf 0.19.0)

For each type, the bytes of 512 weights of which all are finite, and their float32 values; and weights with their Q8_0 bytes.
"""

from pathlib import Path

import gguf  # type: ignore[import-not-found]  # a peer, which our environment does not have
import numpy as np

TYPES = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K")
WEIGHTS = 512


def main() -> None:
    """Write the file."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((4, 64), dtype=np.float32)
    arrays = {"weights": weights, "weights_q8_0": gguf.quants.quantize(weights, gguf.GGMLQuantizationType.Q8_0)}
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        width, size = gguf.GGML_QUANT_SIZES[kind]
        blocks = rng.integers(0, 256, (2 * WEIGHTS, size), dtype=np.uint8)
        plain = {"F32": np.float32, "F16": np.float16}.get(name)
        with np.errstate(all="ignore"):
            values = gguf.quants.dequantize(blocks if plain is None else blocks.view(plain), kind).astype(np.float32)
        finite = np.isfinite(values).all(axis=1).nonzero()[0][: WEIGHTS // width]
        arrays[name], arrays[f"{name}_values"] = blocks[finite].reshape(-1), values[finite].reshape(-1)
    np.savez_compressed(Path(__file__).with_suffix(".npz"), **arrays)


if __name__ == "__main__":
    main()
