"""A language model on NumPy: train it on your own text on a CPU, sample from it, read every line."""

from importlib import import_module
from typing import TYPE_CHECKING

from axone.llm.checkpoints.bundle import ModelBundle, load, open_bundle, save_gguf, save_pretrained
from axone.llm.checkpoints.checkpoint import Checkpoint
from axone.llm.checkpoints.run import Run
from axone.llm.checkpoints.run_folder import unused_run
from axone.llm.config import LanguageModelConfig
from axone.llm.data.dataset import TokenDataset
from axone.llm.errors import (
    AxoneError,
    ChatTemplateError,
    CheckpointError,
    DataError,
    DownloadError,
    LaunchError,
    MissingDependencyError,
    NotEnoughMemoryError,
    RankError,
    RunBusyError,
    RunExistsError,
    TrainingDivergedError,
    WorkerError,
)
from axone.llm.generation.drafting import Draft
from axone.llm.generation.generate import generate
from axone.llm.generation.prompt_cache import PromptCache
from axone.llm.generation.sampling import SamplingConfig
from axone.llm.generation.text import Completion, TextGenerator
from axone.llm.loss import bigram_loss, bits_per_byte, cross_entropy, next_token_loss
from axone.llm.model import LanguageModel, count_parameters
from axone.llm.training.callbacks import (
    Callback,
    CheckpointEvent,
    EndEvent,
    EvaluationEvent,
    StartEvent,
    StepEvent,
)
from axone.llm.training.config import TrainerConfig
from axone.llm.training.estimate import Estimate, require_memory
from axone.llm.training.trainer import Trainer

if TYPE_CHECKING:
    from axone.llm.adapters.adapter import Adapter, BaseModel, train_last_blocks
    from axone.llm.chat.chat import Answer, Chat
    from axone.llm.chat.template import ChatTemplate, Message
    from axone.llm.checkpoints.run_data import training_tokens
    from axone.llm.data.cache import cached_dataset, user_cache
    from axone.llm.data.conversations import Conversations
    from axone.llm.data.corpus import TextFiles, python_source, read_text
    from axone.llm.data.held_out import HeldOutEnds
    from axone.llm.evaluation import conversation_loss, perplexity, sliding_loss
    from axone.llm.inspection.attention_maps import attention_maps, plot_attention
    from axone.llm.pretrained.hub import download
    from axone.llm.training.loggers import ProgressBar, SampleText, TensorBoard, format_duration
    from axone.llm.training.loss_plot import LossPlot
    from axone.llm.training.metrics import MetricsFile, read_metrics
    from axone.llm.training.presets import PRESETS, Preset, preset
    from axone.llm.verification import Report, save_golden, verify
else:
    _IMPORTED_ON_USE = {  # a training needs none of these: they would add a tenth to the time until its first step
        "adapters.adapter": "Adapter BaseModel train_last_blocks",
        "chat.chat": "Answer Chat",
        "chat.template": "ChatTemplate Message",
        "checkpoints.run_data": "training_tokens",
        "data.cache": "cached_dataset user_cache",
        "data.conversations": "Conversations",
        "data.corpus": "TextFiles python_source read_text",
        "data.held_out": "HeldOutEnds",
        "evaluation": "conversation_loss perplexity sliding_loss",
        "inspection.attention_maps": "attention_maps plot_attention",
        "pretrained.hub": "download",
        "training.loggers": "ProgressBar SampleText TensorBoard format_duration",
        "training.loss_plot": "LossPlot",
        "training.metrics": "MetricsFile read_metrics",
        "training.presets": "PRESETS Preset preset",
        "verification": "Report save_golden verify",
    }
    _MODULES = {name: module for module, names in _IMPORTED_ON_USE.items() for name in names.split()}

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"axone.llm.{_MODULES[name]}"), name)
        return value


__all__ = [
    "PRESETS",
    "Adapter",
    "Answer",
    "AxoneError",
    "BaseModel",
    "Callback",
    "Chat",
    "ChatTemplate",
    "ChatTemplateError",
    "Checkpoint",
    "CheckpointError",
    "CheckpointEvent",
    "Completion",
    "Conversations",
    "DataError",
    "DownloadError",
    "Draft",
    "EndEvent",
    "Estimate",
    "EvaluationEvent",
    "HeldOutEnds",
    "LanguageModel",
    "LanguageModelConfig",
    "LaunchError",
    "LossPlot",
    "Message",
    "MetricsFile",
    "MissingDependencyError",
    "ModelBundle",
    "NotEnoughMemoryError",
    "Preset",
    "ProgressBar",
    "PromptCache",
    "RankError",
    "Report",
    "Run",
    "RunBusyError",
    "RunExistsError",
    "SampleText",
    "SamplingConfig",
    "StartEvent",
    "StepEvent",
    "TensorBoard",
    "TextFiles",
    "TextGenerator",
    "TokenDataset",
    "Trainer",
    "TrainerConfig",
    "TrainingDivergedError",
    "WorkerError",
    "attention_maps",
    "bigram_loss",
    "bits_per_byte",
    "cached_dataset",
    "conversation_loss",
    "count_parameters",
    "cross_entropy",
    "download",
    "format_duration",
    "generate",
    "load",
    "next_token_loss",
    "open_bundle",
    "perplexity",
    "plot_attention",
    "preset",
    "python_source",
    "read_metrics",
    "read_text",
    "require_memory",
    "save_gguf",
    "save_golden",
    "save_pretrained",
    "sliding_loss",
    "train_last_blocks",
    "training_tokens",
    "unused_run",
    "user_cache",
    "verify",
]
