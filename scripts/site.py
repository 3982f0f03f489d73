"""Build the documentation as a site: `make docs`, or `python -m scripts.site ZENSICAL`.

Copies the documents and what they link to as they lie in the repository to `build/site`, so that links which
work in the repository work on the site. Then builds `site/` with the given generator, and checks every link,
anchor, script and picture: the site must work without the internet, from a folder.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from infra.paths import PROJECT

_STAGE, _SITE = PROJECT / "build" / "site", PROJECT / "site"
_CONFIGURATION = PROJECT / "zensical.toml"
_LINK = re.compile(r"\]\(([^)\s]+)\)|<img[^>]+src=\"([^\"]+)\"")
#: The generator loads this from elsewhere, for search in pages of the file system; ours is the same file.
_SHIM, _OWN_SHIM = "https://unpkg.com/iframe-worker/shim", PROJECT / "docs" / "site" / "iframe-worker.js"


@dataclass
class _Page(HTMLParser):
    """What a page has: its anchors, its links, and what a browser loads with it."""

    file: Path
    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value is not None}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") not in ("canonical", "next", "prev"):
            self.loaded.append(given.get("href", ""))
        elif "src" in given:
            self.loaded.append(given["src"])


def main() -> int:
    """Returns the exit status: 1 where the site has a fault."""
    stage()
    built = subprocess.run(
        [sys.argv[1], "build", "--strict", "--clean", "--config-file", str(_CONFIGURATION)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        print(f"{built.stdout}{built.stderr.partition('Traceback')[0]}", file=sys.stderr)
        return 1
    _load_nothing_from_elsewhere()
    found = list(faults(_SITE))
    for fault in found:
        print(fault, file=sys.stderr)
    pages = len(list(_SITE.rglob("*.html")))
    if not found:
        print(f"{pages} pages, every link checked: {_SITE.relative_to(PROJECT)}/index.html")
    return 1 if found else 0


def stage() -> None:
    """Copy the documents, and the files of the repository that they link to."""
    shutil.rmtree(_STAGE, ignore_errors=True)
    waiting = [PROJECT / each for each in documents()]
    copied: set[Path] = set()
    while waiting:
        source = waiting.pop()
        if source in copied or not source.is_file():
            continue  # a link that leads nowhere is found on the site
        copied.add(source)
        target = _STAGE / source.relative_to(PROJECT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        if source.suffix == ".md":
            waiting += _linked(source)


def documents() -> list[str]:
    """The documents that the navigation names, relative to the project."""
    return list(_in_navigation(tomllib.loads(_CONFIGURATION.read_text())["project"]["nav"]))


def _in_navigation(part: object) -> Iterator[str]:
    if isinstance(part, str):
        yield part
    elif isinstance(part, list):
        for each in part:
            yield from _in_navigation(each)
    elif isinstance(part, dict):
        for each in part.values():
            yield from _in_navigation(each)


def _linked(document: Path) -> Iterator[Path]:
    """The files of the repository that a document links to."""
    for match in _LINK.finditer(document.read_text(encoding="utf-8")):
        link = urldefrag(match[1] or match[2]).url
        target = (document.parent / unquote(link)).resolve()
        if link and not urlsplit(link).scheme and target.is_relative_to(PROJECT):
            yield target


def _load_nothing_from_elsewhere() -> None:
    shutil.copyfile(_OWN_SHIM, _SITE / "assets" / _OWN_SHIM.name)
    for page in _SITE.rglob("*.html"):
        up = "../" * (len(page.relative_to(_SITE).parts) - 1)
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace(_SHIM, f"{up}assets/{_OWN_SHIM.name}"), encoding="utf-8")


def faults(site: Path) -> Iterator[str]:
    """What is wrong with the site: links that lead nowhere, and what a page loads from elsewhere."""
    pages = {file.resolve(): _Page(file) for file in sorted(site.rglob("*.html")) if file.name != "404.html"}
    for file, page in pages.items():
        where = file.relative_to(site.resolve())
        for link in [*page.links, *page.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    yield f"{where}: loads {link}"
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                yield f"{where}: {link} leads nowhere"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
                yield f"{where}: {link} has no such heading"


if __name__ == "__main__":
    sys.exit(main())
