"""What holds for every page: its length, the messages it quotes, and code that compiles and names what exists."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest

from support.doc_blocks import ROOT, Block, blocks, pages

MAX_WORDS = 1200
MAX_README_LINES = 150
TROUBLESHOOTING = sorted((ROOT / "docs").glob("troubleshooting*.md"))
PYTHON = blocks("python")


@pytest.mark.parametrize("page", [page for page in pages() if page.parent.name == "docs"], ids=lambda page: page.stem)
def test_pages_stay_short(page: Path) -> None:
    assert len(page.read_text().split()) <= MAX_WORDS


def test_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_README_LINES


def test_every_page_has_its_place() -> None:
    listed = re.findall(r"([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    written = [page.name for page in (ROOT / "docs").glob("*.md")]
    assert sorted(name for name in listed if "/" not in name) == sorted(written)


@pytest.mark.parametrize("page", [*pages(), *(ROOT / "docs/reports").glob("*.md")], ids=lambda page: page.stem)
def test_links_point_to_existing_headings(page: Path) -> None:
    links = re.findall(r"\]\(([\w./]*)#([\w-]+)\)", page.read_text())
    missing = [(file, anchor) for file, anchor in links if anchor not in _anchors(page.parent / file if file else page)]
    assert missing == []


@pytest.mark.parametrize("page", TROUBLESHOOTING, ids=lambda page: page.stem)
def test_quoted_messages_are_those_of_the_code(page: Path) -> None:
    messages = re.findall(r"^\| `(.+?)` \| [^|]+ \| [^|]+ \|$", page.read_text(), re.MULTILINE)
    texts = _texts_of_the_code()
    parts = [part.strip(" :;,?()") for message in messages for part in message.split("...")]
    assert len(messages) > 15
    assert [part for part in parts if len(part) > 7 and part not in texts] == []


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_python_imports_what_exists(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("distcond"):
            assert [name.name for name in node.names if not hasattr(import_module(node.module), name.name)] == []
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "distcond":
            assert hasattr(import_module("distcond"), node.attr) or import_module(f"distcond.{node.attr}")


def _anchors(page: Path) -> list[str]:
    """The anchors of a page's headings, as MkDocs and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings]


def _texts_of_the_code() -> str:
    """Every string of the code, adjacent literals joined, one a line; a formatted value is left out."""
    found = []
    for file in [*(ROOT / "distcond").rglob("*.py"), *(ROOT / "cluster").rglob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)
