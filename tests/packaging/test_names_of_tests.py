"""Test names state a behaviour in at most 8 words."""

from __future__ import annotations

import ast
from pathlib import Path

TESTS = Path(__file__).parents[1]
MAX_WORDS = 8


def test_names_have_at_most_eight_words() -> None:
    assert _long_names() == []


def _long_names() -> list[str]:
    too_long = []
    for file in sorted(TESTS.rglob("test_*.py")):
        folder = str(file.parent.relative_to(TESTS))
        names = [node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
        words = {name: len(name.removeprefix("test_").split("_")) for name in names if name.startswith("test_")}
        too_long += [f"{folder}/{file.name}::{name}" for name, count in words.items() if count > MAX_WORDS]
    return too_long
