"""Tests of this directory act as a second, unprivileged user of this machine."""

from __future__ import annotations

import pytest

from support.second_user import why_none


@pytest.fixture(autouse=True)
def as_root() -> None:
    """Skips where there can be no second user."""
    if reason := why_none():
        pytest.skip(reason)
