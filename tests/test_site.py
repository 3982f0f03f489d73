"""The check of the documentation's site finds what is wrong, and leaves alone what is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import site

pytestmark = pytest.mark.fast

GOOD = {
    "index.html": '<h1 id="a">A</h1><a href="docs/b.html#b">B</a><a href="a.yaml">a</a><a href="#a">A</a>',
    "docs/b.html": '<h2 id="b">B</h2><a href="https://example.com/">e</a><script src="../own.js"></script>',
    "a.yaml": "a: 1",
    "own.js": "",
}


def faults(folder: Path, changed: dict[str, str]) -> list[str]:
    for name, text in {**GOOD, **changed}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return list(site.faults(folder))


def test_a_site_whose_links_lead_somewhere_has_no_fault(tmp_path: Path) -> None:
    assert faults(tmp_path, {}) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('<a href="docs/c.html">C</a>', "index.html: docs/c.html leads nowhere"),
        ('<a href="docs/b.html#other">B</a>', "index.html: docs/b.html#other has no such heading"),
        ('<a href="examples/">e</a>', "index.html: examples/ leads nowhere"),
        ('<img src="picture.png">', "index.html: picture.png leads nowhere"),
        ('<script src="https://example.com/a.js"></script>', "index.html: loads https://example.com/a.js"),
        (
            '<link rel="stylesheet" href="//example.com/a.css">',
            "index.html: loads //example.com/a.css",
        ),
    ],
)
def test_a_fault_is_named_with_its_page(tmp_path: Path, text: str, fault: str) -> None:
    assert faults(tmp_path, {"index.html": text}) == [fault]


def test_a_document_is_copied_with_the_files_that_it_links_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "README.md").write_text("[b](docs/b.md#part) [gone](gone.md) [web](https://example.com/x)")
    (tmp_path / "docs" / "b.md").write_text("[example](../stack.yaml) ![picture](p.png)")
    for name in ("stack.yaml", "unlinked.yaml", "docs/p.png"):
        (tmp_path / name).write_text("x")
    (tmp_path / "zensical.toml").write_text('[project]\nnav = [{ "Overview" = "README.md" }]')
    monkeypatch.setattr(site, "PROJECT", tmp_path)
    monkeypatch.setattr(site, "_STAGE", tmp_path / "build")
    monkeypatch.setattr(site, "_CONFIGURATION", tmp_path / "zensical.toml")
    site.stage()
    copied = {
        str(each.relative_to(tmp_path / "build"))
        for each in (tmp_path / "build").rglob("*")
        if each.is_file()
    }
    assert copied == {"README.md", "docs/b.md", "docs/p.png", "stack.yaml"}


def test_every_document_is_in_the_navigation() -> None:
    listed = site.documents()
    written = {
        f"docs/{each.relative_to(site.PROJECT / 'docs')}" for each in (site.PROJECT / "docs").rglob("*.md")
    }
    assert written <= set(listed), "name it in zensical.toml"
