"""Downloads from a server with the Hub's interface that the tests start: the network is never needed."""

import hashlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from axone.llm import DownloadError, LanguageModel, MissingDependencyError, download

FAMILIES = Path(__file__).parent / "frozen/families"
COMMIT = "a" * 40
FILES = {path.name: path.read_bytes() for path in (FAMILIES / "llama").iterdir()} | {"pytorch_model.bin": b"a pickle"}


class Hub(BaseHTTPRequestHandler):
    """The part of the Hub's interface that a download needs."""

    asked: list[str]

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        self.asked.append(path)
        headers = {}
        if path.startswith("/api/models/owner/model/tree/"):
            tree = [{"type": "file", "path": n, "size": len(c), "oid": digest(c)} for n, c in FILES.items()]
            content = json.dumps(tree).encode()
        elif path.startswith("/api/models/owner/model"):
            siblings = [{"rfilename": name} for name in FILES]
            content = json.dumps({"id": "owner/model", "sha": COMMIT, "siblings": siblings}).encode()
        elif path.startswith("/owner/model/resolve/"):
            content = FILES[path.rpartition("/")[2]]
            headers = {"ETag": f'"{digest(content)}"', "X-Repo-Commit": COMMIT}
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for name, value in {"Content-Length": str(len(content)), "Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


def digest(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def endpoint() -> Iterator[str]:
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_model_is_downloaded_without_its_pickles_and_opened(endpoint: str, tmp_path: Path) -> None:
    folder = download("owner/model", tmp_path / "model", endpoint=endpoint)
    assert folder == tmp_path / "model"
    assert sorted(path.name for path in folder.iterdir() if path.suffix in {".json", ".safetensors", ".bin"}) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    assert LanguageModel.from_pretrained(folder).config == LanguageModel.from_pretrained(FAMILIES / "llama").config
    before = len(Hub.asked)
    download("owner/model", tmp_path / "model", endpoint=endpoint)
    assert not any(path.endswith("model.safetensors") for path in Hub.asked[before:])


def test_a_failed_download_gives_one_sentence(endpoint: str, tmp_path: Path) -> None:
    for name in ("model", "owner/model/file", "../model", "https://server/model", ""):
        with pytest.raises(DownloadError, match="is not the name of a model"):
            download(name, tmp_path, endpoint=endpoint)
    with pytest.raises(DownloadError, match=r"owner/other cannot be downloaded .*404.*check the name and the network"):
        download("owner/other", tmp_path, endpoint=endpoint)
    with pytest.raises(DownloadError, match=r"owner/model cannot be downloaded .*check the name and the network"):
        download("owner/model", tmp_path / "none", endpoint="http://127.0.0.1:1")
    assert not any(tmp_path.rglob("*.safetensors"))


def test_without_the_library_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "axone-llm\[hub\]"'):
        download("owner/model")
