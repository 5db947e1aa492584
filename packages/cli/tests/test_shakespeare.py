"""Download of tiny Shakespeare from a local server: once, checked, and refused in one sentence."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from axone.cli import shakespeare
from axone.cli.console import UserError

CONTENT = b"First Citizen:\nBefore we proceed any further, hear me speak.\n"


class Counting(HTTPServer):
    """Server that counts requests."""

    requests = 0


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Counting)
        self.server.requests += 1
        self.send_response(200)
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture
def server() -> Iterator[Counting]:
    with Counting(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def address(server: Counting) -> str:
    return f"http://127.0.0.1:{server.server_port}/input.txt"


def test_it_is_downloaded_once(server: Counting, tmp_path: Path) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    for _ in range(2):
        assert shakespeare.download(address(server), sha256, tmp_path).read_bytes() == CONTENT
    assert server.requests == 1


def test_a_text_with_another_checksum_is_refused_and_removed(server: Counting, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the checksum of .* is not that"):
        shakespeare.download(address(server), cache=tmp_path)
    assert list(tmp_path.iterdir()) == []
