"""A test's name says the behaviour, and does not tell a story."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
MOST = 8

#: Folders whose tests still have longer names. Strike out what is renamed; nothing is added.
NOT_YET = (
    "faults",
    "launch",
    "storage",
    "tuning",
)


def test_names_have_at_most_eight_words() -> None:
    assert [name for folder, name in _long_names() if folder not in NOT_YET] == []


def test_folders_not_yet_renamed_have_long_names() -> None:
    assert sorted(set(NOT_YET) - {folder for folder, _ in _long_names()}) == []


def _long_names() -> list[tuple[str, str]]:
    found = []
    for file in sorted(TESTS.rglob("test_*.py")):
        folder = str(file.parent.relative_to(TESTS))
        names = [node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
        words = {name: len(name.removeprefix("test_").split("_")) for name in names if name.startswith("test_")}
        found += [(folder, f"{folder}/{file.name}::{name}") for name, count in words.items() if count > MOST]
    return found
