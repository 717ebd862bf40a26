"""Check that every link within a built site leads somewhere, and that executed notebooks show pictures.

``python tests/packaging/links.py docs/_build/html``
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """Links and anchors of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.add(value)


def broken_links(site: Path) -> list[str]:
    """``page -> link`` for each link to a missing file or anchor; links to other sites are left alone."""
    pages = {
        path.resolve(): Page(path.read_text(encoding="utf-8"))
        for path in site.rglob("*.html")
        if "_static" not in path.parts
    }
    broken = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or link.startswith("#!"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            known = target in pages and unquote(parts.fragment) in pages[target].anchors
            if not (known or (target not in pages and target.exists())):
                broken.append(f"{path.relative_to(site.resolve())} -> {link}")
    return broken


def without_pictures(site: Path) -> list[str]:
    """Tutorials with outputs of which none is a picture, as where a kernel draws on a backend that shows nothing."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(site.glob("tutorials/*.html"))}
    return [
        f"tutorials/{path.name} shows no picture"
        for path, text in texts.items()
        if "cell_output" in text and "_images/" not in text
    ]


if __name__ == "__main__":
    found = [*broken_links(Path(sys.argv[1])), *without_pictures(Path(sys.argv[1]))]
    print("\n".join(found) or "all links within the site lead somewhere, and all notebooks show pictures")
    sys.exit(bool(found))
