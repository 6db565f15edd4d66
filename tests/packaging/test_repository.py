from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    ROOT.glob("docs/**/*.md")
)
LINK = re.compile(r"\]\(([^)\s]+)\)|\b(?:src|href)=\"([^\"]+)\"")

# Where packages and images come from depends on the machine: a mirror, a cache, or no network at all.
REGISTRIES = [
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("download", "pytorch", "org"),
        ("anaconda", "org"),
        ("docker", "io"),
        ("ghcr", "io"),
        ("quay", "io"),
        ("nvcr", "io"),
        ("deb", "debian", "org"),
    )
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_point_to_existing_files(document: Path) -> None:
    targets = [markdown or html for markdown, html in LINK.findall(document.read_text())]
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert [target for target in local if not (document.parent / target).exists()] == []


def test_architecture_page_names_existing_files() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    paths = re.findall(r"`((?:distcond|cluster|tests)/[\w/]+(?:\.py)?)`", page)
    assert len(paths) > 60
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_architecture_page_lists_the_enforced_layers() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    listed = [line.split(", ") for line in page.split("```")[1].strip().splitlines()]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    enforced = [re.findall(r"\w+", layer) for layer in contracts[0]["layers"]]
    assert listed == enforced


def test_no_file_names_a_registry() -> None:
    found = [(path, host) for path in _files() for host in REGISTRIES if host in _text(ROOT / path)]
    assert found == []


def _files() -> list[str]:
    """Every file of the repository, new ones included."""
    # safe.directory: the checkout may belong to another user.
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.splitlines()


def _text(path: Path) -> str:
    return path.read_text(errors="replace") if path.is_file() else ""
