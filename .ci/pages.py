"""Check of the built documentation: internal links and anchors, the width of code lines, and backticks that reST did not read.

python .ci/pages.py docs/_build/html
"""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

CODE_COLUMNS = 88  # as many fit into a code block at 1,400 px; docs/_static/axone.css sets the font and the column
SOURCES = "_modules"  # pages with whole source files, whose lines may have 120 columns
VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}


class Page(HTMLParser):
    """Parser of one page that collects its anchors, links, code blocks and prose."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.code: list[str] = []
        self.prose: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect anchors and links."""
        values = dict(attrs)
        self.anchors |= {name for name in (values.get("id"), values.get("name") if tag == "a" else None) if name}
        self.links += [link for link in (values.get("href"), values.get("src")) if link]
        if tag not in VOID:
            self._open.append(tag)
        if tag == "pre":
            self.code.append("")

    def handle_endtag(self, tag: str) -> None:
        """Leave an element, and those inside it that were not closed."""
        while tag in self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        """Collect code and prose."""
        if "pre" in self._open:
            self.code[-1] += data
        elif not {"script", "style", "code"} & set(self._open):
            self.prose.append(data)


def broken_links(root: Path, path: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Yield an error for each link of a page to a file or anchor that does not exist."""
    for link in pages[path].links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
        if not target.is_relative_to(root):
            yield f"links to {link}, which leaves the documentation"
        elif not target.is_file():
            yield f"links to {link}, a file that does not exist"
        elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
            yield f"links to {link}, an anchor that does not exist"


def faults(root: Path, path: Path, pages: dict[Path, Page]) -> Iterator[str]:
    """Yield all errors of a page."""
    yield from broken_links(root, path, pages)
    if path.relative_to(root).parts[0] != SOURCES:
        for line in "\n".join(pages[path].code).splitlines():
            if len(line) > CODE_COLUMNS:
                yield f"has a line of code of {len(line)} columns, more than {CODE_COLUMNS}: {line.strip()}"
            if "``" in line and "```" not in line:
                yield f"has backticks in a block of code: {line.strip()}"
        yield from (f"has backticks in its text: {text.strip()}" for text in pages[path].prose if "`" in text)


def main(folder: str) -> None:
    """Exit with all errors of the pages of a folder."""
    root = Path(folder).resolve()
    pages = {path: Page(path) for path in sorted(root.rglob("*.html")) if "_static" not in path.parts}
    found = [f"{path.relative_to(root).as_posix()} {fault}" for path in pages for fault in faults(root, path, pages)]
    if not pages:
        sys.exit(f"{folder} has no pages: build the documentation first")
    if found:
        sys.exit("\n".join(found))
    links = sum(len(page.links) for page in pages.values())
    blocks = sum(len(page.code) for path, page in pages.items() if path.relative_to(root).parts[0] != SOURCES)
    print(f"{len(pages)} pages: {links} links and {blocks} blocks of code are right")


if __name__ == "__main__":
    main(*sys.argv[1:])
