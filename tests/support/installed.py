"""Skips of whole files where a package is missing, without an import of it: every process collects all files."""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def needs(package: str, reason: str) -> None:
    """Skip the file that is being collected unless `package` is installed."""
    if find_spec(package) is None:
        pytest.skip(reason, allow_module_level=True)
