"""LanguageModel: token embedding, Transformer, and output layer.

References
----------
.. [1] A. Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2),
   https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from axone.autograd import Tensor, concatenate
from axone.llm.blocks import ngram_layer, norm_layer, transformer_block
from axone.llm.config import LanguageModelConfig
from axone.llm.errors import CheckpointError, NotEnoughMemoryError
from axone.llm.generation.decoder import Decoder
from axone.llm.generation.folding import FoldCache
from axone.llm.generation.generate import generate
from axone.llm.generation.prompt_cache import PromptCache
from axone.llm.generation.sampling import SamplingConfig, SamplingOptions
from axone.llm.generation.speculation import DraftChoice
from axone.llm.pretrained.folder import write_folder
from axone.llm.pretrained.source import PretrainedModel, open_pretrained
from axone.llm.quantization import WeightFormat, array_of, check_format, int8_layers, load_int8
from axone.llm.runtime.resources import available_memory
from axone.llm.types import Ids
from axone.nn import (
    Dropout,
    Embedding,
    KVCache,
    Linear,
    Module,
    RotaryEmbedding,
    SharedPrefix,
    Transformer,
    init,
)
from axone.nn.extend import Int8Weight, Mask, Positions, RowCache, Weight, flatten
from axone.nn.functional import linear


class LanguageModel(Module):
    """A decoder-only Transformer over tokens.

    Initial weights are those of GPT-2, except for the standard deviation, which depends on the width: ``0.02 sqrt(768 /
    C)`` is GPT-2's 0.02 at its 768 channels, and keeps the variance through narrower products too. The last weight of each
    residual branch is divided by ``sqrt(2 num_layers)``. Biases and n-gram embeddings are zero.

    Parameters
    ----------
    config : LanguageModelConfig
    rng : numpy.random.Generator, optional
        Draws the initial weights; None makes a new one.

    Attributes
    ----------
    eos_ids : tuple of int
        Ids that end a text: `generate` stops there by default. Empty unless the model's folder names some.

    Examples
    --------
    >>> import numpy as np
    >>> from axone.llm import LanguageModel, LanguageModelConfig
    >>> config = LanguageModelConfig(
    ...     vocab_size=65, context_length=64, num_layers=2, num_heads=4, embed_dim=32
    ... )
    >>> model = LanguageModel(config, rng=np.random.default_rng(0))
    >>> model(np.zeros((1, 8), np.int64)).shape
    (1, 8, 65)
    """

    def __init__(self, config: LanguageModelConfig, *, rng: np.random.Generator | None = None) -> None:
        rng = np.random.default_rng(rng)
        self.config = config
        self.eos_ids: tuple[int, ...] = ()
        self.embedding = Embedding(config.vocab_size, config.embed_dim, rng=rng)
        self.dropout = Dropout(config.dropout, rng=rng.spawn(1)[0])
        rotary = None
        if config.position == "rotary":
            rotary = RotaryEmbedding(config.head_width, theta=config.rope_theta, scaling=config.rope_scaling)
        self.transformer = Transformer(
            [transformer_block(config, rotary, rng) for _ in range(config.num_layers)],
            norm=norm_layer(config),
            position=Embedding(config.context_length, config.embed_dim, rng=rng)
            if config.position == "learned"
            else None,
        )
        self.ngram_embedding = ngram_layer(config, rng)
        self._fold_cache = FoldCache()
        self.head = None
        if not config.tie_embeddings:
            self.head = Linear(config.embed_dim, config.vocab_size, bias=False, rng=rng)
        # These replace the values that the layers have drawn from `rng`. The layers draw all the same, because their draws
        # advance `rng`: a seed keeps its weights. They take a third of the 3 s for GPT-2.
        std = 0.02 * math.sqrt(768 / config.embed_dim)
        for name, parameter in self.named_parameters():
            if name.endswith(("out_proj.weight", "down_proj.weight")):
                init.scaled_residual(parameter, num_layers=config.num_layers, std=std, rng=rng)
            elif parameter.ndim == 2 and not name.startswith("ngram_embedding."):
                init.normal(parameter, std=std, rng=rng)
            elif name.endswith("_proj.bias"):
                init.constant(parameter, 0)
        flatten(self.parameters())

    def __call__(self, ids: Ids) -> Tensor:
        """Return the logits of the next token at each position.

        Parameters
        ----------
        ids : ndarray of int, shape (B, T)

        Returns
        -------
        Tensor, shape (B, T, V)

        Raises
        ------
        ValueError
            If `ids` has another number of axes, or there are more positions than were learned.
        """
        return linear(self.hidden(ids), self.output_weight)

    def hidden(
        self, ids: Ids, *, mask: Mask | None = None, positions: Positions | None = None, prefix: Ids | None = None
    ) -> Tensor:
        """Return the input of the output layer: the normalized stream after the last block.

        Parameters
        ----------
        ids : ndarray of int, shape (B, T)
        mask, positions
            As in `axone.nn.Transformer`: for rows of several sequences. Positions count from the end of the prefix.
        prefix : ndarray of int, shape (P,), optional
            Ids with which every row begins; they are computed once for all rows.

        Returns
        -------
        Tensor, shape (B, T, C)
        """
        ids = np.asarray(ids)
        if ids.ndim != 2:
            raise ValueError(f"ids of shape {ids.shape} must have shape (B, T)")
        if prefix is None:
            return self.transformer(self.dropout(self.embed(ids, positions)), mask=mask, positions=positions)
        B, T, P = *ids.shape, len(prefix)
        layout = SharedPrefix(P, B, mask)
        rows = self.embed(ids, positions, prefix).reshape(1, B * T, -1)
        stream = concatenate([self.embed(prefix[None]), rows], axis=1)  # (1, P + B T, C)
        if positions is not None:
            positions = np.concatenate([np.arange(P), P + np.broadcast_to(positions, (B, T)).reshape(-1)])
        stream = self.transformer(self.dropout(stream), mask=layout, positions=positions)
        return stream[:, P:].reshape(B, T, stream.shape[2])

    def embed(self, ids: Ids, positions: Positions | None = None, prefix: Ids | None = None) -> Tensor:
        """Return the input of the Transformer: the vectors of tokens, and of n-grams if there are such.

        Parameters
        ----------
        ids : ndarray of int, shape (B, T)
        positions, prefix
            As in `hidden`.

        Returns
        -------
        Tensor, shape (B, T, C)
        """
        x, scale = self.embedding(ids), self.config.embedding_scale
        if scale != 1:
            x = x * scale
        if self.ngram_embedding is not None:
            x = x + self.ngram_embedding(ids, positions=positions, before=prefix)
        return x

    @property
    def input_weight(self) -> Weight:
        """The vectors of the tokens at the input, of shape (V, C): the token embedding times its factor, if it has one."""
        weight, scale = array_of(self.embedding), self.config.embedding_scale
        if scale == 1:
            return weight
        return weight.scaled(scale) if isinstance(weight, Int8Weight) else weight * scale

    @property
    def output_weight(self) -> Tensor:
        """The weight of the output layer, of shape (V, C): the token embedding, if they are tied.

        A float32 copy of int8 weights.
        """
        layer = self.embedding if self.head is None else self.head
        weight = array_of(layer)
        return Tensor(weight.dense()) if isinstance(weight, Int8Weight) else layer.weight

    def generate(
        self,
        prompt_ids: Sequence[int],
        *,
        max_new_tokens: int,
        sampling: SamplingConfig | None = None,
        stop_ids: Sequence[int] | None = None,
        rng: np.random.Generator | None = None,
        workers: int | None = None,
        prompt_cache: PromptCache | None = None,
        draft: DraftChoice = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[int]:
        """Yield new tokens, one at a time, as the function `axone.llm.generate` does.

        Parameters
        ----------
        prompt_ids, max_new_tokens, sampling, stop_ids, rng, workers, prompt_cache, draft, **options
            As in `axone.llm.generate`.

        Yields
        ------
        int
        """
        config = SamplingConfig.merge(sampling, options)
        return generate(
            self,
            prompt_ids,
            max_new_tokens=max_new_tokens,
            sampling=config,
            stop_ids=stop_ids,
            rng=rng,
            workers=workers,
            prompt_cache=prompt_cache,
            draft=draft,
        )

    def decoder(self, *, workers: int | None = None) -> Decoder:
        """Return a decoder, which reads tokens into caches several times as fast as a call.

        It may hold copies of the weights: make a new one when they have changed. As a context manager it may fork
        processes.

        Parameters
        ----------
        workers : int, optional
            As in `axone.llm.generate`.
        """
        return Decoder(
            self.transformer,
            self.input_weight,
            array_of(self.embedding if self.head is None else self.head),
            ngrams=self.ngram_embedding,
            workers=workers,
            fold_cache=self._fold_cache,
        )

    def make_caches(self, batch: int, length: int | None = None) -> list[KVCache]:
        """Return empty KV caches, one for each block, and one that keeps ids if there are n-gram embeddings.

        Parameters
        ----------
        batch : int
            B.
        length : int, optional
            The most positions, by default those of the context. Memory is allocated as they are filled.

        Returns
        -------
        list of KVCache
            From the first block to the last, then that of ids.
        """
        config = self.config
        dtype, max_length = self.embedding.weight.dtype, config.context_length if length is None else length
        shape = config.kv_heads, max_length, config.head_width
        kept = [] if self.ngram_embedding is None else [self.ngram_embedding.make_cache(batch, max_length)]
        if batch == 1 and RowCache.pays(config.num_heads, *shape):
            return [*(RowCache(*shape, dtype=dtype) for _ in range(config.num_layers)), *kept]
        return [*(KVCache(batch, *shape, dtype=dtype) for _ in range(config.num_layers)), *kept]

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Return the arrays of the parameters by name; refuse int8 weights, of which there are no such arrays."""
        if int8_layers(self):
            raise ValueError("a model with int8 weights cannot be written: load it with float32 weights")
        return super().state_dict()

    def num_parameters(self) -> int:
        """Return the number of elements of all parameters and int8 weights."""
        return super().num_parameters() + sum(layer.weight.size for layer in int8_layers(self))

    def save_pretrained(self, folder: str | PathLike[str]) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder.

        They are in Hugging Face's words for GPT-2, Llama, Qwen2 and Qwen3, and say ``"model_type": "axone"`` for all other
        models.

        Parameters
        ----------
        folder : path
            Made if it is not there; files of these names in it are replaced.

        Raises
        ------
        OSError
            If the folder cannot be written.
        """
        write_folder(Path(folder), self.config, self.state_dict(), eos_ids=self.eos_ids)

    @classmethod
    def from_pretrained(cls, path: str | PathLike[str], *, weights: WeightFormat = "float32") -> LanguageModel:
        """Read a model from a folder that `save_pretrained` or Hugging Face wrote, or from a GGUF file.

        Parameters
        ----------
        path : path
            A folder with ``config.json`` and safetensors, of the GPT-2, Llama, Qwen2 or Qwen3 family, or a ``.gguf`` file of
            the architectures llama, qwen2 and qwen3. Weights become float32, or float64 if all are that.
        weights : {"float32", "int8"}, default "float32"
            "int8" rounds each row of the matrices to 127 steps of its largest number, for inference at a quarter of the memory.

        Returns
        -------
        LanguageModel
            In evaluation mode.

        Raises
        ------
        ValueError
            If `weights` is something else.
        CheckpointError
            If the path holds no model, or one that this class does not compute exactly.
        """
        with open_pretrained(Path(path)) as source:
            return cls.from_source(source, path, weights=weights)

    @classmethod
    def from_source(
        cls, source: PretrainedModel, path: str | PathLike[str], *, weights: WeightFormat = "float32"
    ) -> LanguageModel:
        """Build a model from an opened folder or file, whose weights are converted straight into its parameters.

        Parameters
        ----------
        source : PretrainedModel
        path, weights
            As in `from_pretrained`; the path is for messages.

        Raises
        ------
        CheckpointError
            If the weights do not fit the configuration.
        NotEnoughMemoryError
            If they need more memory than is free.
        """
        check_format(weights)
        try:
            with init.skip():
                model = cls(source.config)
        except (ValueError, OverflowError) as error:  # arrays beyond NumPy's largest dimension
            raise CheckpointError(path, f"describes a model that cannot be built ({error})") from error
        matched = source.match({name: parameter.shape for name, parameter in model.named_parameters()})
        item = 1 if weights == "int8" else source.dtype.itemsize
        needed, free = model.num_parameters() * item, available_memory()
        if free is not None and needed > free:
            raise NotEnoughMemoryError(
                f"the weights of {path} need {needed / 2**20:,.0f} MB of memory, and {free / 2**20:,.0f} MB are free: choose "
                "a smaller model"
            )
        if weights == "int8":
            load_int8(model, model.embedding, matched)
        else:
            flatten(model.parameters(), dtype=source.dtype)
            matched.load(model.state_dict())
        model.eos_ids = source.eos_ids
        return model.eval()


def count_parameters(config: LanguageModelConfig) -> int:
    """Return the number of elements of all parameters of a model, without drawing or allocating them.

    Parameters
    ----------
    config : LanguageModelConfig

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If a parameter is larger than any array can be.

    Examples
    --------
    >>> from axone.llm import LanguageModelConfig, count_parameters
    >>> count_parameters(LanguageModelConfig.gpt2())
    124439808
    """
    try:
        with init.skip():
            one, two = (LanguageModel(replace(config, num_layers=count)).num_parameters() for count in (1, 2))
    except (ValueError, OverflowError) as error:
        raise ValueError(f"a parameter of this configuration is larger than any array can be ({error})") from error
    return one + (config.num_layers - 1) * (two - one)
