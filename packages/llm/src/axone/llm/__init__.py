"""A language model on NumPy: train it on your own text on a CPU, sample from it, read every line."""

from axone.llm.chat.template import ChatTemplate, Message
from axone.llm.checkpoints.bundle import load
from axone.llm.checkpoints.run import Run, unused_run
from axone.llm.config import LanguageModelConfig
from axone.llm.data.corpus import TextFiles, learned_dataset, python_source, read_text
from axone.llm.data.dataset import TokenDataset
from axone.llm.errors import (
    AxoneError,
    ChatTemplateError,
    CheckpointError,
    MissingDependencyError,
    NotEnoughMemoryError,
    RunBusyError,
    RunExistsError,
    TrainingDivergedError,
)
from axone.llm.generation.generate import Completion, TextGenerator, generate
from axone.llm.generation.sampling import SamplingConfig
from axone.llm.inspection.attention_maps import attention_maps, plot_attention
from axone.llm.loss import bigram_loss, bits_per_byte, cross_entropy
from axone.llm.model import LanguageModel
from axone.llm.training.callbacks import Callback, End, Evaluation, Saved, Start, Step
from axone.llm.training.config import TrainerConfig
from axone.llm.training.estimate import Estimate, require_memory
from axone.llm.training.presets import PRESETS, Preset, preset
from axone.llm.training.trainer import Trainer

__all__ = [
    "PRESETS",
    "AxoneError",
    "Callback",
    "ChatTemplate",
    "ChatTemplateError",
    "CheckpointError",
    "Completion",
    "End",
    "Estimate",
    "Evaluation",
    "LanguageModel",
    "LanguageModelConfig",
    "Message",
    "MissingDependencyError",
    "NotEnoughMemoryError",
    "Preset",
    "Run",
    "RunBusyError",
    "RunExistsError",
    "SamplingConfig",
    "Saved",
    "Start",
    "Step",
    "TextFiles",
    "TextGenerator",
    "TokenDataset",
    "Trainer",
    "TrainerConfig",
    "TrainingDivergedError",
    "attention_maps",
    "bigram_loss",
    "bits_per_byte",
    "cross_entropy",
    "generate",
    "learned_dataset",
    "load",
    "plot_attention",
    "preset",
    "python_source",
    "read_text",
    "require_memory",
    "unused_run",
]
