"""Every search space is readable data whose paths and values the config accepts."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from distcond.config.overrides import resolve

SPACES = sorted(Path(__file__).parents[2].glob("tune_spaces/*.toml"))
KINDS = {"uniform", "loguniform", "choice"}


def ends(entry: dict[str, Any]) -> list[Any]:
    return entry["values"] if entry["kind"] == "choice" else [entry["low"], entry["high"]]


def test_there_are_spaces() -> None:
    assert {path.stem for path in SPACES} >= {"noise_scale", "lam_sampler", "optimiser", "density", "width"}


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_space_fits_the_config(path: Path) -> None:
    space = tomllib.loads(path.read_text())
    assert path.read_text().startswith("#"), "a header says what is asked"
    assert space["question"].endswith("?")
    assert space["trials"] >= 1
    assert space["cost"]
    for setting, entry in space["space"].items():
        assert entry["kind"] in KINDS
        for value in ends(entry):
            resolve(space["recipe"], {setting: value})
