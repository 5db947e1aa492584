"""Sphinx extension: trains the model of the page to play, once for each version of its sources, and exports it."""

from hashlib import sha256
from pathlib import Path

from play.model import EXAMPLES, export, train
from sphinx.application import Sphinx

HERE = Path(__file__).parent / "play"


def _write_weights(app: Sphinx) -> None:
    """Write docs/_generated/play/weights.js, unless these sources have written it."""
    if app.builder.format != "html":
        return
    path = Path(app.srcdir, "_generated/play/weights.js")
    sources = b"".join((HERE / name).read_bytes() for name in ("model.py", "stories.py"))
    version = sha256(sources).hexdigest()
    if path.exists() and version in path.read_text(encoding="utf-8"):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    model, tokenizer, loss = train()
    export(model, tokenizer, path, examples=EXAMPLES, validation_loss=loss, version=version)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("builder-inited", _write_weights)
    return {"parallel_read_safe": True}
