"""Format of ``run.json``, and its upgrade from older formats."""

from axone.llm.storage.json_schema import Document, Format, renamed

OPTIONS = "run.json"
IDENTITY = "run_id"
RENAMED_OPTIONS = {
    "clip": "max_grad_norm",
    "accumulation": "gradient_accumulation_steps",
    "order": "sampling",
    "eval_windows": "eval_sequences",
    "patience": "early_stopping_patience",
}
"""Fields of `TrainerConfig` in format 0 of ``run.json``, and their names in format 1."""


def _upgrade_options(document: Document) -> Document:
    """Return ``run.json`` of format 0 in format 1: options have new names, and data may be outside of the run."""
    trainer, data = document.get("trainer"), document.get("data")
    if isinstance(trainer, dict):
        document = {**document, "trainer": renamed(trainer, RENAMED_OPTIONS)}
    if isinstance(data, dict) and all(isinstance(part, dict) for part in data.values()):
        document = {**document, "data": {name: {**part, "external": True} for name, part in data.items()}}
    return document


RUN_FORMAT = Format((_upgrade_options,))
