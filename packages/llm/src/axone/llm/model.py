"""LanguageModel: token embedding, Transformer, and a distribution over the next token at every position.

References
----------
.. [1] A. Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2),
   https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor
from axone.llm.config import LanguageModelConfig
from axone.llm.pretrained import folder as model_folder
from axone.nn import (
    MLP,
    Dropout,
    Embedding,
    KVCache,
    LayerNorm,
    Linear,
    Module,
    MultiHeadAttention,
    Transformer,
    TransformerBlock,
    init,
)
from axone.nn.functional import linear

Ids = NDArray[np.integer[Any]]


class LanguageModel(Module):
    """A decoder-only Transformer over tokens.

    Weights start as in GPT-2, but for its width: normal with deviation ``0.02 sqrt(768 / C)``, which is GPT-2's 0.02 at
    its own 768 channels and keeps the variance through narrower products too; the last product of each residual branch
    scaled down by ``sqrt(2 num_layers)``, biases zero.

    Parameters
    ----------
    config : LanguageModelConfig
    rng : numpy.random.Generator, optional
        Where the first weights come from; None draws a fresh one.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.llm import LanguageModel, LanguageModelConfig
    >>> config = LanguageModelConfig(vocab_size=65, context_length=64, num_layers=2, num_heads=4, embed_dim=32)
    >>> model = LanguageModel(config, rng=np.random.default_rng(0))
    >>> model(np.zeros((1, 8), np.int64)).shape
    (1, 8, 65)
    """

    def __init__(self, config: LanguageModelConfig, *, rng: np.random.Generator | None = None) -> None:
        rng = init.generator(rng)
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.embed_dim, rng=rng)
        self.dropout = Dropout(config.dropout, rng=rng.spawn(1)[0])
        self.transformer = Transformer(
            [_block(config, rng) for _ in range(config.num_layers)],
            norm=LayerNorm(config.embed_dim, eps=config.norm_eps, bias=config.bias),
            position=Embedding(config.context_length, config.embed_dim, rng=rng),
        )
        self.head = None
        if not config.tie_embeddings:
            self.head = Linear(config.embed_dim, config.vocab_size, bias=False, rng=rng)
        std = 0.02 * math.sqrt(768 / config.embed_dim)
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj.weight", "down_proj.weight")):
                init.scaled_residual(parameter, num_layers=config.num_layers, std=std, rng=rng)
            elif parameter.ndim == 2:
                init.normal(parameter, std=std, rng=rng)
            elif name.endswith("_proj.bias"):
                parameter.data.fill(0)

    def __call__(self, ids: Ids, *, caches: Sequence[KVCache] | None = None) -> Tensor:
        """Return unnormalized log-probabilities of the token that follows each position.

        Parameters
        ----------
        ids : ndarray of int, shape (B, T)
        caches : sequence of KVCache, optional
            From `make_caches`; holds the positions read before these.

        Returns
        -------
        Tensor, shape (B, T, V)

        Raises
        ------
        ValueError
            If `ids` has another number of axes, or more positions than the context.
        """
        return self._logits(self._stream(ids, caches))

    def next_logits(self, ids: Ids, *, caches: Sequence[KVCache]) -> NDArray[np.floating[Any]]:
        """Return the logits after the last position only, as an array: what generation needs.

        Parameters
        ----------
        ids : ndarray of int, shape (B, T)
        caches : sequence of KVCache

        Returns
        -------
        ndarray, shape (B, V)
        """
        return self._logits(Tensor(self._stream(ids, caches).data[:, -1])).data

    def make_caches(self, batch: int) -> list[KVCache]:
        """Return empty caches for `batch` sequences of up to the context's length."""
        config = self.config
        return [
            KVCache(batch, config.kv_heads, config.context_length, config.head_dim, dtype=self.embedding.weight.dtype)
            for _ in range(config.num_layers)
        ]

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder, as Hugging Face's GPT-2 has them.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        model_folder.write(Path(folder), self.config, self.state_dict())

    @classmethod
    def from_pretrained(cls, folder: str | PathLike[str]) -> LanguageModel:
        """Read a model from a folder that `save_pretrained` or Hugging Face's GPT-2 wrote.

        Raises
        ------
        CheckpointError
            If the folder holds no model, or one that this class does not compute exactly.
        """
        config, weights = model_folder.read(Path(folder))
        model = cls(config, rng=np.random.default_rng(0))
        parameters = dict(model.named_parameters())
        for name, array in weights:  # one at a time: a second copy of all would double the memory
            parameters[name].data[...] = array
        return model.eval()

    def _stream(self, ids: Ids, caches: Sequence[KVCache] | None) -> Tensor:
        ids = np.asarray(ids)
        if ids.ndim != 2:
            raise ValueError(f"a language model reads ids of shape (B, T), and these have shape {ids.shape}")
        return self.transformer(self.dropout(self.embedding(ids)), caches=caches)

    def _logits(self, x: Tensor) -> Tensor:
        return linear(x, self.embedding.weight) if self.head is None else self.head(x)


def _block(config: LanguageModelConfig, rng: np.random.Generator) -> TransformerBlock:
    attention = MultiHeadAttention(
        config.embed_dim,
        config.num_heads,
        num_kv_heads=config.kv_heads,
        bias=config.bias,
        dropout=config.dropout,
        rng=rng,
    )
    mlp = MLP(config.embed_dim, config.mlp_dim, bias=config.bias, dropout=config.dropout, rng=rng)
    return TransformerBlock(
        attention,
        mlp,
        attention_norm=LayerNorm(config.embed_dim, eps=config.norm_eps, bias=config.bias),
        mlp_norm=LayerNorm(config.embed_dim, eps=config.norm_eps, bias=config.bias),
    )
