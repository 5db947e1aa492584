"""LanguageModelConfig: shape of a decoder-only Transformer, from GPT-2 to Llama and Qwen.

References
----------
.. [1] A. Radford et al., "Language Models are Unsupervised Multitask Learners" (GPT-2),
   https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf
.. [2] A. Dubey et al., "The Llama 3 Herd of Models", https://arxiv.org/abs/2407.21783
.. [3] Qwen Team, "Qwen2.5 Technical Report", https://arxiv.org/abs/2412.15115
.. [4] Qwen Team, "Qwen3 Technical Report", https://arxiv.org/abs/2505.09388
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from axone.llm.storage.field_types import require_field_types
from axone.nn import Llama3Scaling

_AT_LEAST_1 = (
    "vocab_size", "context_length", "num_layers", "num_heads", "embed_dim", "num_kv_heads", "head_dim", "hidden_dim",
    "max_ngram", "ngram_rows", "ngram_hashes",
)  # fmt: skip
_GATED_MULTIPLE = 32  # SwiGLU's default width, 8/3 C (the size of a GELU layer of 4 C), is rounded up to this


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """Shape of a decoder-only Transformer.

    Parameters
    ----------
    vocab_size : int
        V, number of tokens in the vocabulary.
    context_length : int
        Maximum number of positions, in tokens.
    num_layers : int
        L, number of blocks.
    num_heads : int
        H, query heads of a block.
    embed_dim : int
        C, width of the residual stream.
    num_kv_heads : int, optional
        K, key and value heads of a block, by default H. H must be divisible by K.
    head_dim : int, optional
        D, width of a head, by default ``C / H``.
    hidden_dim : int, optional
        Width inside the feed-forward layers, by default ``4 C``; for "swiglu", which has three matrices instead of two,
        about ``8 C / 3``.
    norm : {"layer", "rms"}
        Normalization.
    position : {"learned", "rotary"}
        Position encoding: a learned vector per position, or rotation of queries and keys.
    mlp : {"gelu", "swiglu", "relu2"}
        Feed-forward layer.
    bias : bool, default True
        Whether linear layers and layer norms have a bias. RMS norms have none.
    qkv_bias : bool, optional
        Whether the projections to queries, keys and values have a bias, by default as `bias`.
    qk_norm : bool, default False
        Whether queries and keys are normalized, head by head.
    qk_norm_eps : float, default 1e-6
        Added to the mean square in the norms of queries and keys.
    max_ngram : int, default 1
        Length of the longest n-grams, the last n tokens of a position, that have learned vectors: those of the last two,
        three and so on are added to the token embedding. 1 for none: other families cannot express more.
    ngram_rows : int, default 8192
        Rows of each table of such vectors, or fewer if there are not so many n-grams.
    ngram_hashes : int, default 4
        Number of hashes of an n-gram, each of which finds a part of its vector: fewer n-grams are confused.
    ngram_dropout : float, default 0.0
        Probability, in training, that a position lacks the vector of one of its n-grams, in [0, 1).
    tie_embeddings : bool, default True
        Whether the output layer shares the weight of the token embedding.
    embedding_scale : float, default 1.0
        Factor of the token embedding at the input of the blocks; the output layer has none.
    dropout : float, default 0.0
        Dropout probability in training, in [0, 1).
    norm_eps : float, default 1e-5
        Added to the variance in the normalization.
    rope_theta : float, default 10000.0
        Base of the rotary angles.
    rope_scaling : Llama3Scaling, optional
        Change of the rotary angles for contexts longer than those of the first training.

    Raises
    ------
    TypeError
        If a field holds a value of another type.
    ValueError
        If a field is out of range, or two fields contradict each other.
    """

    vocab_size: int
    context_length: int
    num_layers: int
    num_heads: int
    embed_dim: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    hidden_dim: int | None = None
    norm: Literal["layer", "rms"] = "layer"
    position: Literal["learned", "rotary"] = "learned"
    mlp: Literal["gelu", "swiglu", "relu2"] = "gelu"
    bias: bool = True
    qkv_bias: bool | None = None
    qk_norm: bool = False
    qk_norm_eps: float = 1e-6
    max_ngram: int = 1
    ngram_rows: int = 8192
    ngram_hashes: int = 4
    ngram_dropout: float = 0.0
    tie_embeddings: bool = True
    embedding_scale: float = 1.0
    dropout: float = 0.0
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_scaling: Llama3Scaling | None = None

    def __post_init__(self) -> None:
        require_field_types(self)
        for field in _AT_LEAST_1:
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"{field} ({value}) must be at least 1")
        for field in ("norm_eps", "qk_norm_eps", "rope_theta", "embedding_scale"):
            value = getattr(self, field)
            if not 0 < value < math.inf:
                raise ValueError(f"{field} ({value}) must be positive and finite")
        for field in ("dropout", "ngram_dropout"):
            value = getattr(self, field)
            if not 0 <= value < 1:
                raise ValueError(f"{field} ({value}) must be in [0, 1)")
        if self.head_dim is None and self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim ({self.embed_dim}) must be divisible by num_heads ({self.num_heads})")
        if self.max_ngram > 1 and self.embed_dim % self.ngram_hashes:
            raise ValueError(f"embed_dim ({self.embed_dim}) must be divisible by ngram_hashes ({self.ngram_hashes})")
        if self.num_heads % self.kv_heads:
            raise ValueError(f"num_heads ({self.num_heads}) must be divisible by num_kv_heads ({self.num_kv_heads})")
        if self.position == "rotary" and self.head_width % 2:
            raise ValueError(f"the width of a head ({self.head_width}) must be even for rotary positions")
        if self.position != "rotary" and self.rope_scaling is not None:
            raise ValueError("rope_scaling must be None unless position is 'rotary'")

    @property
    def kv_heads(self) -> int:
        """K: `num_kv_heads`, or its default."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def head_width(self) -> int:
        """D: `head_dim`, or its default."""
        return self.embed_dim // self.num_heads if self.head_dim is None else self.head_dim

    @property
    def mlp_dim(self) -> int:
        """Width inside the feed-forward layers: `hidden_dim`, or its default."""
        if self.hidden_dim is not None:
            return self.hidden_dim
        if self.mlp == "swiglu":
            return -(-8 * self.embed_dim // (3 * _GATED_MULTIPLE)) * _GATED_MULTIPLE
        return 4 * self.embed_dim

    @property
    def ngram_tables(self) -> list[int]:
        """Rows of the tables of n-grams, from pairs to those of `max_ngram` tokens."""
        return [min(self.ngram_rows, self.vocab_size**order) for order in range(2, self.max_ngram + 1)]

    @property
    def has_qkv_bias(self) -> bool:
        """Whether the projections to queries, keys and values have a bias: `qkv_bias`, or its default."""
        return self.bias if self.qkv_bias is None else self.qkv_bias

    @classmethod
    def gpt2(cls, **overrides: Any) -> LanguageModelConfig:
        """Return the configuration of GPT-2 (124 million parameters), with some fields replaced.

        Parameters
        ----------
        **overrides
            Fields to replace.

        Returns
        -------
        LanguageModelConfig

        Examples
        --------
        >>> from axone.llm import LanguageModelConfig
        >>> LanguageModelConfig.gpt2(num_layers=24, num_heads=16, embed_dim=1024).head_width
        64
        """
        shape = {"vocab_size": 50257, "context_length": 1024, "num_layers": 12, "num_heads": 12, "embed_dim": 768}
        return cls(**{**shape, **overrides})

    @classmethod
    def llama(cls, **overrides: Any) -> LanguageModelConfig:
        """Return the configuration of Llama 3.2 1B, with some fields replaced.

        Parameters
        ----------
        **overrides
            Fields to replace.

        Returns
        -------
        LanguageModelConfig
        """
        shape = {
            "vocab_size": 128256, "context_length": 131072, "num_layers": 16, "num_heads": 32, "num_kv_heads": 8,
            "embed_dim": 2048, "hidden_dim": 8192, "rope_theta": 500000.0, "rope_scaling": Llama3Scaling(factor=32.0),
        }  # fmt: skip
        return cls(**{**_ROTARY_FAMILY, **shape, **overrides})

    @classmethod
    def qwen2(cls, **overrides: Any) -> LanguageModelConfig:
        """Return the configuration of Qwen2.5 0.5B, with some fields replaced.

        Parameters
        ----------
        **overrides
            Fields to replace.

        Returns
        -------
        LanguageModelConfig
        """
        shape = {
            "vocab_size": 151936, "context_length": 32768, "num_layers": 24, "num_heads": 14, "num_kv_heads": 2,
            "embed_dim": 896, "hidden_dim": 4864, "rope_theta": 1e6, "norm_eps": 1e-6, "qkv_bias": True,
        }  # fmt: skip
        return cls(**{**_ROTARY_FAMILY, **shape, **overrides})

    @classmethod
    def qwen3(cls, **overrides: Any) -> LanguageModelConfig:
        """Return the configuration of Qwen3 0.6B, with some fields replaced.

        Parameters
        ----------
        **overrides
            Fields to replace.

        Returns
        -------
        LanguageModelConfig
        """
        shape = {
            "vocab_size": 151936, "context_length": 40960, "num_layers": 28, "num_heads": 16, "num_kv_heads": 8,
            "embed_dim": 1024, "head_dim": 128, "hidden_dim": 3072, "rope_theta": 1e6, "norm_eps": 1e-6, "qk_norm": True,
        }  # fmt: skip
        return cls(**{**_ROTARY_FAMILY, **shape, **overrides})


_ROTARY_FAMILY = {"norm": "rms", "position": "rotary", "mlp": "swiglu", "bias": False}
"""Fields that Llama, Qwen2 and Qwen3 have in common."""
