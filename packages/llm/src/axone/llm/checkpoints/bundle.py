"""Model bundles: a language model, its tokenizer and its chat template, read and written together.

A bundle is read from a run, a model folder of Hugging Face's layout or a GGUF file, and written as a folder or a GGUF file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import DTypeLike

from axone.llm.chat.template import ChatTemplate
from axone.llm.checkpoints.checkpoint import ADAPTER_CONFIG, TOKENIZER, TOKENIZER_CONFIG, Checkpoint
from axone.llm.checkpoints.run import Run
from axone.llm.errors import ChatTemplateError, CheckpointError
from axone.llm.model import LanguageModel
from axone.llm.pretrained.folder import write_folder
from axone.llm.pretrained.source import is_gguf
from axone.llm.quantization import WeightFormat, num_bytes, require_no_adapter
from axone.llm.storage.atomic import write_json
from axone.llm.storage.regular import open_regular, read_json
from axone.tokenizer import SubwordTokenizer, Tokenizer, TokenizerError, from_gguf
from axone.tokenizer import load as load_tokenizer

CHAT_TEMPLATE_FILE = "chat_template.jinja"
_CHAT_TEMPLATE = "chat_template"
_GGUF_TEMPLATE = "tokenizer.chat_template"
_LARGEST_TEMPLATE = 1 << 20  # bytes


@dataclass(frozen=True)
class ModelBundle:
    """A language model, its tokenizer and its chat template.

    Attributes
    ----------
    model : LanguageModel
    tokenizer : Tokenizer
        Its vocabulary is at most that of the model.
    chat_template_text : str or None
        The Jinja program, where the files hold one.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    chat_template_text: str | None = None

    def __post_init__(self) -> None:
        if self.tokenizer.vocab_size > self.model.config.vocab_size:
            raise ValueError(
                f"vocab_size of the tokenizer ({self.tokenizer.vocab_size}) must be at most that of the model "
                f"({self.model.config.vocab_size})"
            )

    @property
    def num_bytes(self) -> int:
        """The size of the weights."""
        return num_bytes(self.model)

    @property
    def chat_template(self) -> ChatTemplate:
        """The chat template.

        Raises
        ------
        ChatTemplateError
            If the files hold none.
        MissingDependencyError
            If jinja2 is not installed.
        """
        if self.chat_template_text is None:
            raise ChatTemplateError(
                "the model has no chat template, so it was not taught to chat: sample from it instead"
            )
        spelled = {
            name: "" if id is None else self.tokenizer.decode([id])
            for name, id in (("bos_token", self.tokenizer.bos_token_id), ("eos_token", self.tokenizer.eos_token_id))
        }
        return ChatTemplate(self.chat_template_text, **spelled)

    def write(self, folder: str | os.PathLike[str], *, dtype: DTypeLike | None = None) -> None:
        """Write the model's files, ``tokenizer.json`` and ``tokenizer_config.json``.

        The last makes transformers read the ids of ``tokenizer.json``; without it, it builds GPT-2's tokenizer for GPT-2's
        family, which gives other ids.

        Parameters
        ----------
        folder : path
        dtype : dtype, optional
            Of the weights in the file, by default that of the parameters.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        folder, model = Path(folder), self.model
        bos_id = self.tokenizer.bos_token_id
        write_folder(folder, model.config, model.state_dict(), eos_ids=model.eos_ids, bos_id=bos_id, dtype=dtype)
        self.tokenizer.save(folder / TOKENIZER)
        if os.path.lexists(folder / CHAT_TEMPLATE_FILE):
            (folder / CHAT_TEMPLATE_FILE).unlink()  # that of a model that was here before: it would be read first
        template = {} if self.chat_template_text is None else {_CHAT_TEMPLATE: self.chat_template_text}
        write_json(folder / TOKENIZER_CONFIG, {**self.tokenizer.tokenizer_config(), **template})

    def write_gguf(self, path: str | os.PathLike[str], *, dtype: str = "f16") -> None:
        """Write a GGUF file, for llama.cpp.

        Parameters
        ----------
        path : path
        dtype : {"f32", "f16", "q8_0"}
            Of the matrices.

        Raises
        ------
        ValueError
            If the format cannot express the model or its tokenizer.
        OSError
            If the file cannot be written.
        """
        if not isinstance(self.tokenizer, SubwordTokenizer):
            raise TokenizerError("a GGUF file cannot hold a character tokenizer: train a BPE tokenizer for the model")
        from axone.llm.pretrained.gguf import model as gguf  # not before it is used: a training needs no GGUF

        metadata = gguf.tokenizer_metadata(self.tokenizer.to_gguf(), self.model.config.vocab_size, self.model.eos_ids)
        if self.chat_template_text is not None:
            metadata[_GGUF_TEMPLATE] = self.chat_template_text
        gguf.save_model(Path(path), self.model.config, self.model.state_dict(), dtype=dtype, metadata=metadata)

    @classmethod
    def read(cls, path: Path, *, weights: WeightFormat = "float32") -> ModelBundle:
        """Read a model folder, a GGUF file, or an adapter with its base; the model is in evaluation mode.

        Raises
        ------
        CheckpointError
            If a file is missing or damaged, or the tokenizer is not the model's.
        """
        if os.path.lexists(path / ADAPTER_CONFIG) and not os.path.lexists(path / "config.json"):
            require_no_adapter(weights)
            return _read_adapted(path)
        bundle = _read_gguf(path, weights) if is_gguf(path) else _read_folder(path, weights)
        eos_id = bundle.tokenizer.eos_token_id
        if eos_id is not None:
            bundle.model.eos_ids = tuple(sorted({*bundle.model.eos_ids, eos_id}))
        return bundle


def open_bundle(
    path: str | os.PathLike[str],
    *,
    adapter: str | os.PathLike[str] | None = None,
    any_base: bool = False,
    weights: WeightFormat = "float32",
) -> ModelBundle:
    """Open a run (its best checkpoint), a checkpoint, a model folder or a GGUF file.

    Parameters
    ----------
    path : path
    adapter : path, optional
        Folder of an adapter, which is merged into the model.
    any_base : bool, default False
        Whether the model may have other numbers than the base of the adapter, as in `Adapter.load`.
    weights : {"float32", "int8"}, default "float32"
        As in `load`. An adapter needs "float32".

    Returns
    -------
    ModelBundle
        Its model is in evaluation mode.

    Raises
    ------
    CheckpointError
        If the path is something else, or damaged, or the adapter belongs to another model.
    """
    if adapter is not None:
        require_no_adapter(weights)
    bundle = _open(Path(path), weights)
    if adapter is not None:
        from axone.llm.adapters.adapter import Adapter  # not before it is used

        Adapter.load(bundle.model, adapter, any_base=any_base).merge(bundle.model)
    return bundle


def _open(path: Path, weights: WeightFormat) -> ModelBundle:
    if is_gguf(path):
        return ModelBundle.read(path, weights=weights)
    if not path.is_dir():
        by_name = "" if os.path.lexists(path) else ", or download a model by its name with axone.llm.download"
        raise CheckpointError(
            path, f"is not a folder or GGUF file: name a run, a model folder or a .gguf file{by_name}"
        )
    run = Run(path)
    if not run.checkpoints_path.is_dir():
        if not any(os.path.lexists(path / name) for name in ("config.json", ADAPTER_CONFIG)):
            raise CheckpointError(path, "is not a model: it holds neither checkpoints nor a config.json")
        Checkpoint(path).verify()
        return ModelBundle.read(path, weights=weights)
    while True:
        checkpoint = run.best()
        try:
            return ModelBundle.read(checkpoint.path, weights=weights)
        except CheckpointError:
            if checkpoint.path.exists():
                raise
            # The run is being trained, and removed this checkpoint meanwhile.


def load(path: str | os.PathLike[str], *, weights: WeightFormat = "float32") -> tuple[LanguageModel, Tokenizer]:
    """Load the model and the tokenizer of a run (its best checkpoint), a model folder or a GGUF file.

    Parameters
    ----------
    path : path
    weights : {"float32", "int8"}, default "float32"
        "int8" rounds each row of the matrices to 127 steps of its largest number, for inference in a quarter of the memory.

    Returns
    -------
    model : LanguageModel
        In evaluation mode.
    tokenizer : Tokenizer

    Raises
    ------
    CheckpointError
        If the path is something else, or damaged.
    """
    bundle = open_bundle(path, weights=weights)
    return bundle.model, bundle.tokenizer


def save_pretrained(
    folder: str | os.PathLike[str],
    model: LanguageModel,
    tokenizer: Tokenizer,
    *,
    dtype: DTypeLike | None = None,
    chat_template_text: str | None = None,
) -> None:
    """Write a model and its tokenizer as a folder, which `load` and transformers open.

    Parameters
    ----------
    folder : path
        Made if it is not there; files of the same names in it are replaced.
    model : LanguageModel
    tokenizer : Tokenizer
    dtype : dtype, optional
        Of the weights in the file, by default that of the parameters.
    chat_template_text : str, optional
        The Jinja program of a model that chats.

    Raises
    ------
    ValueError
        If the tokenizer has more tokens than the model.
    OSError
        If the folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from axone.llm import LanguageModel, LanguageModelConfig, load, save_pretrained
    >>> from axone.tokenizer import CharTokenizer
    >>> config = LanguageModelConfig(
    ...     vocab_size=4, context_length=16, num_layers=1, num_heads=1, embed_dim=8
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_pretrained(folder, LanguageModel(config), CharTokenizer.train("abcd"))
    ...     model, tokenizer = load(folder)
    >>> model.config == config, tokenizer.encode("cab")
    (True, [2, 0, 1])
    """
    ModelBundle(model, tokenizer, chat_template_text).write(folder, dtype=dtype)


def save_gguf(
    path: str | os.PathLike[str],
    model: LanguageModel,
    tokenizer: Tokenizer,
    *,
    dtype: str = "f16",
    chat_template_text: str | None = None,
) -> None:
    """Write a model and its tokenizer as a GGUF file, which `load` and llama.cpp open.

    Parameters
    ----------
    path : path
    model : LanguageModel
        With RMS norms, rotary positions and SwiGLU.
    tokenizer : Tokenizer
        Of subwords.
    dtype : {"f32", "f16", "q8_0"}
        Of the matrices.
    chat_template_text : str, optional
        The Jinja program of a model that chats.

    Raises
    ------
    ValueError
        If the format cannot express the model or its tokenizer.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from axone.llm import LanguageModel, LanguageModelConfig, load, save_gguf
    >>> from axone.tokenizer import BPETokenizer
    >>> tokenizer = BPETokenizer.train("low lower lowest " * 9, 264)
    >>> config = LanguageModelConfig.llama(
    ...     vocab_size=264,
    ...     context_length=16,
    ...     num_layers=1,
    ...     num_heads=2,
    ...     num_kv_heads=1,
    ...     embed_dim=32,
    ...     hidden_dim=64,
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_gguf(
    ...         Path(folder) / "model.gguf", LanguageModel(config), tokenizer, dtype="q8_0"
    ...     )
    ...     model, _ = load(Path(folder) / "model.gguf")
    >>> model.num_parameters() == LanguageModel(config).num_parameters()
    True
    """
    ModelBundle(model, tokenizer, chat_template_text).write_gguf(path, dtype=dtype)


def _read_adapted(folder: Path) -> ModelBundle:
    """Return the base of an adapter's folder, with the adapter merged."""
    from axone.llm.checkpoints.adapter_files import open_adapted  # not before it is used

    bundle, adapter = open_adapted(folder)
    adapter.merge(bundle.model)
    return bundle


def _read_folder(folder: Path, weights: WeightFormat) -> ModelBundle:
    model, path = LanguageModel.from_pretrained(folder, weights=weights), folder / TOKENIZER
    try:
        open_regular(path).close()
        tokenizer = load_tokenizer(folder)  # with the roles that tokenizer_config.json names
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(path, f"cannot be used ({error})") from error
    return _bundle(folder, model, tokenizer, _folder_template(folder))


def _read_gguf(path: Path, weights: WeightFormat) -> ModelBundle:
    from axone.llm.pretrained.gguf.model import PretrainedGGUF

    with PretrainedGGUF(path) as source:
        model = LanguageModel.from_source(source, path, weights=weights)
        try:
            tokenizer = from_gguf(source.metadata)
        except ValueError as error:
            raise CheckpointError(path, f"its tokenizer cannot be used ({error})") from error
        template = source.metadata.get(_GGUF_TEMPLATE)
    return _bundle(path, model, tokenizer, template if isinstance(template, str) else None)


def _bundle(path: Path, model: LanguageModel, tokenizer: Tokenizer, template: str | None) -> ModelBundle:
    try:
        return ModelBundle(model, tokenizer, template)
    except ValueError as error:
        raise CheckpointError(path, str(error)) from error


def _folder_template(folder: Path) -> str | None:
    """Return the chat template of a folder: a file of its own, or a field of ``tokenizer_config.json``."""
    path = folder / CHAT_TEMPLATE_FILE
    if os.path.lexists(path):
        try:
            with open_regular(path) as file:
                content = file.read(_LARGEST_TEMPLATE + 1)
            if len(content) > _LARGEST_TEMPLATE:
                raise CheckpointError(path, f"is larger than {_LARGEST_TEMPLATE:,} bytes, which a chat template is not")
            return content.decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(path, f"cannot be read ({error})") from error
    if not os.path.lexists(folder / TOKENIZER_CONFIG):
        return None
    template = read_json(folder / TOKENIZER_CONFIG).get(_CHAT_TEMPLATE)
    if isinstance(template, list):  # several, by name
        named = {each.get("name"): each.get("template") for each in template if isinstance(each, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None
