"""Makes hugging_face_processors.npz: what the logits processors of transformers leave of random rows.

    python hugging_face_processors.py        (transformers 5.23.0, torch 2.13.0)

The logits are eighths, so that many are tied. Of the first rows of each set of options the scores are kept too, of all
rows which tokens are left.
"""

from pathlib import Path

import numpy as np
import torch  # type: ignore[import-not-found]  # a peer, which our environment does not have
from transformers import (  # type: ignore[import-not-found]  # likewise
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

ROWS, VOCABULARY, SEEN, SCORED = 1000, 24, 6, 40
# temperature, top_k, top_p, min_p, repetition penalty; zero stands for none
OPTIONS = np.array(
    [
        [1.0, 0, 0, 0, 1.0],
        [0.7, 5, 0, 0, 1.0],
        [1.3, 0, 0.9, 0, 1.0],
        [1.0, 0, 0.5, 0, 1.0],
        [0.8, 0, 0, 0.1, 1.0],
        [2.5, 0, 0, 0.4, 1.0],
        [1.0, 0, 0, 0, 1.3],
        [0.6, 8, 0.8, 0, 1.2],
        [1.5, 12, 0.95, 0.05, 0.8],
        [0.1, 30, 0.99, 0.01, 2.0],
    ],
    np.float64,
)


def processed(logits: torch.Tensor, seen: torch.Tensor, options: np.ndarray) -> torch.Tensor:
    """Return a batch of rows after the processors."""
    temperature, top_k, top_p, min_p, penalty = options.tolist()
    chain = [RepetitionPenaltyLogitsProcessor(penalty)] if penalty != 1 else []
    chain += [TemperatureLogitsWarper(temperature)] if temperature != 1 else []
    chain += [TopKLogitsWarper(int(top_k))] if top_k else []
    chain += [TopPLogitsWarper(top_p)] if top_p else []
    chain += [MinPLogitsWarper(min_p)] if min_p else []
    for processor in chain:
        logits = processor(seen, logits)
    return logits


rng = np.random.default_rng(0)
eighths = np.clip(rng.normal(0, 16, (len(OPTIONS), ROWS, VOCABULARY)).round(), -127, 127).astype(np.int8)
seen = rng.integers(0, VOCABULARY, (len(OPTIONS), ROWS, SEEN)).astype(np.uint8)
scores = np.stack(
    [
        processed(torch.tensor(e / np.float32(8)), torch.tensor(s.astype(np.int64)), o).numpy()
        for e, s, o in zip(eighths, seen, OPTIONS)
    ]
)
np.savez_compressed(
    Path(__file__).with_suffix(".npz"),
    options=OPTIONS,
    eighths=eighths,
    seen=seen,
    left=np.packbits(np.isfinite(scores), axis=-1),
    scores=scores[:, :SCORED],
)
