"""Check of the built documentation in headless Chromium: nothing overflows at 1,400 and 400 px, and the page to play works.

    python .ci/browser.py docs/_build/html

Without Chromium or Chrome it checks nothing and says so, except in CI, where it installs Debian's.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue

NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"]
SECONDS = 900
OFFLINE = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]


class Handler(SimpleHTTPRequestHandler):
    """Serves the pages and the script of the checks, and receives the faults."""

    def __init__(self, *args: object, pages: list[str], faults: "Queue[list[str]]", folder: str) -> None:
        self.pages, self.faults = pages, faults
        super().__init__(*args, directory=folder)  # type: ignore[arg-type]  # as HTTPServer passes them

    def do_GET(self) -> None:
        """Send the page of the checks, or a file."""
        if self.path != "/.check":
            super().do_GET()
            return
        script = Path(__file__).with_name("browser.js").read_text(encoding="utf-8")
        body = f"<!doctype html><meta charset=utf-8><script>const PAGES = {json.dumps(self.pages)};</script>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(f"{body}<body><script>{script}</script>".encode())

    def do_POST(self) -> None:
        """Receive the faults."""
        self.faults.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing for a request."""


def find_browser() -> str | None:
    """Return the path of Chromium or Chrome; in CI, install it if it is missing."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None and os.environ.get("CI") and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", "chromium"], check=True)
        found = shutil.which("chromium")
    return found


def command(browser: str, profile: str, *arguments: str) -> list[str]:
    """Return the command that opens a page; root has no sandbox."""
    return [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *OFFLINE, *arguments]


def check_pages(browser: str, root: Path, pages: list[str]) -> list[str]:
    """Return the faults that the script finds on the pages, served from this computer."""
    faults: Queue[list[str]] = Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, pages=pages, faults=faults, folder=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        address = f"http://127.0.0.1:{server.server_port}/.check"
        shown = command(browser, profile, "--remote-debugging-port=0", "--window-size=1500,1000", address)
        with subprocess.Popen(shown, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                return faults.get(timeout=SECONDS)
            except Empty:
                return [f"the browser sent no result within {SECONDS} s"]
            finally:
                process.terminate()
                server.shutdown()


def check_file(browser: str, path: Path) -> list[str]:
    """Return a fault if the page to play does not work without a server."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        shown = command(browser, profile, "--dump-dom", "--virtual-time-budget=20000", path.as_uri())
        page = subprocess.run(shown, capture_output=True, text=True, check=True, timeout=SECONDS).stdout
    return [] if 'data-ready="true"' in page else [f"{path.name} does not work without a server"]


def main(folder: str) -> None:
    """Exit with all faults."""
    root = Path(folder).resolve()
    pages = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.html"))]
    pages = [page for page in pages if not page.startswith(("_modules/", "_static/"))]
    browser = find_browser()
    if browser is None and os.environ.get("CI"):
        sys.exit("no Chromium or Chrome: install one of them for the checks in a browser")
    if browser is None:
        print("skipped: there is no Chromium or Chrome to check the pages in")
        return
    found = check_pages(browser, root, pages) + check_file(browser, root / "play/index.html")
    if found:
        sys.exit("\n".join(found))
    print(f"{len(pages)} pages fit at 1,400 and 400 px, and the page to play works")


if __name__ == "__main__":
    main(*sys.argv[1:])
