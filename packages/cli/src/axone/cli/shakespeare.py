"""Tiny Shakespeare: downloaded once into the user's cache, and checked against its SHA-256 sum."""

from pathlib import Path

from axone.cli.console import UserError
from axone.llm import user_cache

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def download(url: str = URL, sha256: str = SHA256, cache: Path | None = None) -> Path:
    """Return the path of the text in the cache, after a download if it is missing.

    Raises
    ------
    UserError
        If there is no network, or the checksum differs.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    folder = user_cache() if cache is None else cache
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", fname="tinyshakespeare.txt", path=folder))
    except ValueError as error:
        raise UserError(f"the checksum of {url} is not that of tiny Shakespeare: try again later") from error
    except (requests.RequestException, OSError) as error:
        raise UserError(f"{url} could not be downloaded: check the network, or give a text with --data FILE") from error
