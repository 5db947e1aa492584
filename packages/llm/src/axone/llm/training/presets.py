"""Presets: matching options of model and training, from a trial of seconds to a training of a night."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from axone.llm.config import LanguageModelConfig
from axone.llm.training.config import TrainerConfig


@dataclass(frozen=True)
class Preset:
    """Options of a model and its training.

    Attributes
    ----------
    summary : str
        Purpose, as a noun phrase.
    model : mapping
        Fields of `LanguageModelConfig` except `vocab_size`.
    trainer : mapping
        Fields of `TrainerConfig` except `context_length`.
    subwords : mapping
        Fields that replace those of `model` if the tokens are subwords instead of characters.
    """

    summary: str
    model: Mapping[str, Any]
    trainer: Mapping[str, Any]
    subwords: Mapping[str, Any] = field(default_factory=dict)

    def for_subwords(self) -> Preset:
        """Return the preset for a vocabulary of subwords.

        Returns
        -------
        Preset

        Examples
        --------
        >>> from axone.llm import preset
        >>> plan = preset("default")
        >>> plan.model["max_ngram"], plan.for_subwords().model["max_ngram"]
        (4, 2)
        """
        return replace(self, model={**self.model, **self.subwords})

    def model_config(self, vocab_size: int) -> LanguageModelConfig:
        """Return the configuration of the model for a vocabulary.

        Parameters
        ----------
        vocab_size : int
            V.

        Returns
        -------
        LanguageModelConfig
        """
        return LanguageModelConfig(vocab_size=vocab_size, **self.model)

    def trainer_config(self, context_length: int, **changes: Any) -> TrainerConfig:
        """Return the configuration of the training, with some fields replaced.

        Parameters
        ----------
        context_length : int
            T.
        **changes
            Fields of `TrainerConfig` to replace; None leaves a field as it is. The preset's own warm-up is limited to a
            tenth of the steps.

        Returns
        -------
        TrainerConfig

        Raises
        ------
        ValueError
            If a field is out of range.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        fields = {**self.trainer, "context_length": context_length, **given}
        if "warmup_steps" in self.trainer and "warmup_steps" not in given:
            fields["warmup_steps"] = min(self.trainer["warmup_steps"], fields["steps"] // 10)
        return TrainerConfig(**fields)


_FAST: dict[str, Any] = {"norm": "rms", "position": "rotary", "mlp": "relu2", "qk_norm": True, "bias": False,
                         "embedding_scale": 4.0}  # fmt: skip
_MUON: dict[str, Any] = {"optimizer": "muon", "schedule": "linear", "average": 0.15, "calibration": 0.02}
_PAIRS: dict[str, Any] = {"max_ngram": 2, "ngram_dropout": 0.5}
"""The trials behind the presets: docs/guide/speedrun.rst."""

PRESETS = {
    "tiny": Preset(
        "a trial of a few seconds",
        {"context_length": 64, "num_layers": 2, "num_heads": 2, "embed_dim": 64, "bias": False},
        {"steps": 200, "batch_size": 8, "learning_rate": 3e-3,
         "eval_every": 100, "eval_sequences": 64},
    ),
    "default": Preset(
        "two to four minutes on two cores, for a text of a few megabytes",
        {"context_length": 256, "num_layers": 3, "num_heads": 2, "embed_dim": 128, "max_ngram": 4, **_FAST},
        {"steps": 650, "batch_size": 16, "learning_rate": 0.02, "muon_learning_rate": 0.02, **_MUON,
         "eval_every": 200, "eval_sequences": 100},
        _PAIRS,
    ),
    "llama": Preset(
        "a small Llama, or Qwen3 with --qk-norm: transformers opens it, and llama.cpp with a BPE tokenizer",
        {"context_length": 128, "num_layers": 4, "num_heads": 4, "num_kv_heads": 2, "embed_dim": 128, "norm": "rms",
         "position": "rotary", "mlp": "swiglu", "bias": False, "norm_eps": 1e-6},  # Qwen3 has one epsilon, 1e-6 in qk_norm
        {"steps": 1200, "batch_size": 16, "learning_rate": 0.02, "muon_learning_rate": 0.03, **_MUON,
         "eval_every": 200, "eval_sequences": 200},
    ),
    "nanogpt-cpu": Preset(
        "nanoGPT's configuration for a CPU, for comparison",
        {"context_length": 64, "num_layers": 4, "num_heads": 4, "embed_dim": 128, "bias": False},
        {"steps": 2000, "batch_size": 12, "learning_rate": 1e-3,
         "weight_decay": 0.1, "betas": (0.9, 0.99), "max_grad_norm": 1.0, "eval_every": 250, "eval_sequences": 400},
    ),
    "12-minutes": Preset(
        "about twelve minutes on two cores, for a text of a megabyte",
        {"context_length": 512, "num_layers": 4, "num_heads": 3, "embed_dim": 192, "max_ngram": 5, "ngram_dropout": 0.5,
         **_FAST},
        {"steps": 720, "batch_size": 16, "learning_rate": 0.014, "muon_learning_rate": 0.02, "weight_decay": 0.5,
         **_MUON, "average": 0.25, "eval_every": 200, "eval_sequences": 100},
        _PAIRS,
    ),
    "30-minutes": Preset(
        "about half an hour on two cores, for a text of a megabyte",
        {"context_length": 1024, "num_layers": 4, "num_heads": 3, "embed_dim": 192, "max_ngram": 5, "ngram_dropout": 0.5,
         "dropout": 0.1, **_FAST},
        {"steps": 1700, "batch_size": 8, "learning_rate": 0.014, "muon_learning_rate": 0.02, "weight_decay": 0.5,
         **_MUON, "average": 0.25, "eval_every": 250, "eval_sequences": 50},
        _PAIRS,
    ),
    "medium": Preset(
        "an hour on two cores, for a text of a few megabytes",
        {"context_length": 512, "num_layers": 6, "num_heads": 4, "embed_dim": 256, "max_ngram": 5, "ngram_dropout": 0.5,
         **_FAST},
        {"steps": 2300, "batch_size": 16, "learning_rate": 0.012, "muon_learning_rate": 0.02, "weight_decay": 0.5,
         **_MUON, "average": 0.25, "eval_every": 250, "eval_sequences": 100},
        _PAIRS,
    ),
    "overnight": Preset(
        "a night on two cores, for tens of megabytes: 30 million parameters with subwords, for which it is made",
        {"context_length": 512, "num_layers": 8, "num_heads": 8, "embed_dim": 512, "dropout": 0.1, **_FAST},
        {"steps": 6000, "batch_size": 8, "learning_rate": 0.006, "muon_learning_rate": 0.02, "warmup_steps": 200, **_MUON,
         "eval_every": 250, "eval_sequences": 100},
        _PAIRS,
    ),
}  # fmt: skip
"""The presets by name."""


def preset(name: str) -> Preset:
    """Return a preset by its name.

    Parameters
    ----------
    name : str
        A name in `PRESETS`.

    Returns
    -------
    Preset

    Raises
    ------
    ValueError
        If the name is unknown.

    Examples
    --------
    >>> from axone.llm import preset
    >>> plan = preset("tiny")
    >>> plan.summary
    'a trial of a few seconds'
    >>> plan.trainer_config(plan.model["context_length"], steps=50).steps
    50
    """
    if name not in PRESETS:
        raise ValueError(f"preset ({name!r}) must be one of {', '.join(PRESETS)}")
    return PRESETS[name]
