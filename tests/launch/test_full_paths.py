"""Ray workers have another working directory than the driver."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.mark.ray
def test_workers_get_absolute_paths(tiny: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from distcond.launch.ray.trainer import _with_absolute_paths

    monkeypatch.chdir(tmp_path)
    assert _with_absolute_paths(tiny("float", init_from="runs/a")).init_from == str(tmp_path / "runs" / "a")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert _with_absolute_paths(tiny("float", init_from="~/a.pth")).init_from == str(tmp_path / "home" / "a.pth")
    assert _with_absolute_paths(tiny("float")).init_from == ""
