"""Tiny Shakespeare, downloaded once into the user's cache and checked against its sum."""

from pathlib import Path

from console import UserError

from axone.llm import user_cache

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def download(url: str = URL, sha256: str = SHA256, cache: Path | None = None) -> Path:
    """Return the path of the text, downloading it if the cache does not hold it.

    Raises
    ------
    UserError
        If there is no network, or what came is not the text.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("ERROR")
    folder = user_cache() if cache is None else cache
    try:
        return Path(pooch.retrieve(url, f"sha256:{sha256}", fname="tinyshakespeare.txt", path=folder))
    except ValueError as error:
        raise UserError(f"what {url} sent is not tiny Shakespeare, its checksum differs: try again later") from error
    except (requests.RequestException, OSError) as error:
        raise UserError(
            f"tiny Shakespeare could not be downloaded from {url}: check the network, or give a text with --data FILE"
        ) from error
