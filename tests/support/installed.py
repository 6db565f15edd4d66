"""Skips test files without importing the package they need: every process collects all files."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def needs(package: str, reason: str) -> None:
    """Skip the current test file unless `package` is installed."""
    if find_spec(package) is None:
        pytest.skip(reason, allow_module_level=True)
