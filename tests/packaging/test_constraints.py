from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11.0", "3.12.0", "3.13.0")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
DECLARED = PROJECT["dependencies"] + [line for extra in EXTRAS.values() for line in extra]
PINS = [
    Requirement(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] not in " #"
]


@pytest.mark.parametrize("line", DECLARED)
def test_every_dependency_is_pinned_above_its_floor(line: str) -> None:
    requirement = Requirement(line)
    for python in PYTHONS:
        (pin,) = [pin for pin in _pins(python) if canonicalize_name(pin.name) == canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(_version(pin))


@pytest.mark.parametrize("python", PYTHONS)
def test_no_package_is_pinned_twice_per_python(python: str) -> None:
    names = [canonicalize_name(pin.name) for pin in _pins(python)]
    assert len(names) == len(set(names))


def test_pre_commit_and_lint_use_one_ruff() -> None:
    (ruff,) = [pin for pin in PINS if pin.name == "ruff"]
    assert f"rev: v{_version(ruff)}\n" in (ROOT / ".pre-commit-config.yaml").read_text()


def test_citation_has_the_version_of_the_package() -> None:
    from distcond import __version__

    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text()


def _pins(python: str) -> list[Requirement]:
    """The pins that apply on Linux for one version of Python."""
    target = {
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }
    return [pin for pin in PINS if pin.marker is None or pin.marker.evaluate(target)]


def _version(pin: Requirement) -> str:
    (specifier,) = pin.specifier
    assert specifier.operator == "=="
    return specifier.version
