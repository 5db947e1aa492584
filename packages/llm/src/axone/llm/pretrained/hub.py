"""Downloads of pretrained models by name, through the library of the Hugging Face Hub.

References
----------
.. [1] Hugging Face, "Download files from the Hub", https://huggingface.co/docs/huggingface_hub/guides/download
"""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path

from axone.llm.errors import DownloadError, MissingDependencyError

_FILES = ["*.json", "*.safetensors", "*.jinja"]  # nothing that could run


def download(
    name: str,
    folder: str | PathLike[str] | None = None,
    *,
    revision: str = "main",
    endpoint: str | None = None,
) -> Path:
    """Download a model's configuration, weights, tokenizer and chat template.

    Files that are there already are not downloaded again. A model that several programs share lies in the Hub's own cache.

    Parameters
    ----------
    name : str
        Owner and model, such as ``"HuggingFaceTB/SmolLM2-135M-Instruct"``.
    folder : path, optional
        The folder to download into, by default one in the Hub's cache.
    revision : str, default "main"
        A branch, tag or commit.
    endpoint : str, optional
        The address of another server with the Hub's interface.

    Returns
    -------
    Path
        The model's folder, for `load`.

    Raises
    ------
    DownloadError
        If the name is not one, the model is not there or not open to everyone, or there is no network.
    MissingDependencyError
        If huggingface-hub is not installed.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingDependencyError("downloads by name", "huggingface-hub", "axone-llm[hub]") from error
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name):
        raise DownloadError(
            f"{name!r:.80} is not the name of a model: give its owner and its name, such as HuggingFaceTB/SmolLM2-135M"
        )
    try:
        found = huggingface_hub.snapshot_download(
            name,
            revision=revision,
            endpoint=endpoint,
            local_dir=None if folder is None else Path(folder),
            allow_patterns=_FILES,
        )
    except (OSError, ValueError, huggingface_hub.errors.HfHubHTTPError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DownloadError(
            f"{name} cannot be downloaded ({first:.200}): check the name and the network, or give a folder that is there"
        ) from error
    return Path(str(found))
