"""LanguageModelConfig: what a language model is, apart from its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from axone.llm.storage.json_schema import require_numbers

_CHOICES = {"norm": ("layer", "rms"), "position": ("learned", "rotary"), "mlp": ("gelu", "swiglu", "relu2")}
_WHOLE = ("vocab_size", "context_length", "num_layers", "num_heads", "embed_dim")
_GATED_MULTIPLE = 32  # a gated layer of 8/3 C channels, rounded up to this, has the size of a plain one of 4 C


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """The shape of a decoder-only Transformer.

    Parameters
    ----------
    vocab_size : int
        V, how many different tokens there are.
    context_length : int
        The most positions that the model reads at once, in tokens.
    num_layers : int
        How many blocks.
    num_heads : int
        H, query heads in each block.
    embed_dim : int
        C, the width of the residual stream.
    num_kv_heads : int, optional
        K, by default H; H is a multiple of it.
    hidden_dim : int, optional
        The width inside the feed-forward layers, by default ``4 C``, and about ``8 C / 3`` for "swiglu", which has three
        matrices instead of two.
    norm : {"layer", "rms"}
        The normalization.
    position : {"learned", "rotary"}
        How the model knows where a token stands: by a learned vector for each position, or by rotating queries and keys.
    mlp : {"gelu", "swiglu", "relu2"}
        The feed-forward layer.
    bias : bool, default True
        Whether linear layers and layer norms add a bias; an RMS norm has none.
    qk_norm : bool, default False
        Whether queries and keys are normalized, head by head.
    tie_embeddings : bool, default True
        Whether the output layer is the token embedding.
    dropout : float, default 0.0
        The probability of dropping an activation in training, in [0, 1).
    norm_eps : float, default 1e-5
        Added to the variance in the normalization.
    rope_theta : float, default 10000.0
        The base of the angles of rotary positions.

    Raises
    ------
    ValueError
        If a field is out of its range.
    TypeError
        If a field that holds a number is given something else.
    """

    vocab_size: int
    context_length: int
    num_layers: int
    num_heads: int
    embed_dim: int
    num_kv_heads: int | None = None
    hidden_dim: int | None = None
    norm: Literal["layer", "rms"] = "layer"
    position: Literal["learned", "rotary"] = "learned"
    mlp: Literal["gelu", "swiglu", "relu2"] = "gelu"
    bias: bool = True
    qk_norm: bool = False
    tie_embeddings: bool = True
    dropout: float = 0.0
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0

    def __post_init__(self) -> None:
        require_numbers(self, (*_WHOLE, "num_kv_heads", "hidden_dim"), ("dropout", "norm_eps", "rope_theta"))
        for field in (*_WHOLE, "num_kv_heads", "hidden_dim"):
            value = getattr(self, field)
            if value is None and field in _WHOLE:
                raise TypeError(f"{field} must be a whole number, and is None: give it as a whole number")
            if value is not None and value < 1:
                raise ValueError(f"{field} must be at least 1, and is {value}")
        for field in ("norm_eps", "rope_theta"):
            if not getattr(self, field) > 0:
                raise ValueError(f"{field} must be positive, and is {getattr(self, field)}")
        for field, choices in _CHOICES.items():
            if getattr(self, field) not in choices:
                raise ValueError(f"{field} must be one of {', '.join(choices)}, and is {getattr(self, field)!r}")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim must be a multiple of num_heads, and is {self.embed_dim} of {self.num_heads}")
        if self.num_heads % self.kv_heads:
            raise ValueError(
                f"num_heads must be a multiple of num_kv_heads, and is {self.num_heads} of {self.num_kv_heads}"
            )
        if self.position == "rotary" and self.head_dim % 2:
            raise ValueError(f"rotary positions need heads of even width, and embed_dim / num_heads is {self.head_dim}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), and is {self.dropout}")

    @property
    def kv_heads(self) -> int:
        """K, also where `num_kv_heads` is left out."""
        return self.num_heads if self.num_kv_heads is None else self.num_kv_heads

    @property
    def mlp_dim(self) -> int:
        """The width inside the feed-forward layers, also where `hidden_dim` is left out."""
        if self.hidden_dim is not None:
            return self.hidden_dim
        if self.mlp == "swiglu":
            return -(-8 * self.embed_dim // (3 * _GATED_MULTIPLE)) * _GATED_MULTIPLE
        return 4 * self.embed_dim

    @property
    def head_dim(self) -> int:
        """D, the width of a head."""
        return self.embed_dim // self.num_heads

    @classmethod
    def gpt2(cls, **overrides: Any) -> LanguageModelConfig:
        """Return the configuration of GPT-2 with 124 million parameters, or one that differs in some fields.

        Parameters
        ----------
        **overrides
            Fields that differ.

        Returns
        -------
        LanguageModelConfig

        Examples
        --------
        >>> from axone.llm import LanguageModelConfig
        >>> LanguageModelConfig.gpt2(num_layers=24, num_heads=16, embed_dim=1024).head_dim
        64
        """
        fields: dict[str, Any] = {
            "vocab_size": 50257,
            "context_length": 1024,
            "num_layers": 12,
            "num_heads": 12,
            "embed_dim": 768,
        }
        return cls(**{**fields, **overrides})
