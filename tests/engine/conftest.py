"""Runs on a few digits that take a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distcond.config.schema import Config


@pytest.fixture(scope="session")
def digits_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the converted digits lie, once for all runs."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    return tmp_path_factory.mktemp("digits")


@pytest.fixture
def small(tiny: Any, digits_cache: Path) -> Callable[..., Config]:
    """`small(method, **settings)`: four epochs of three steps."""

    def config(method: str = "float", model: str = "small_cnn", **settings: Any) -> Config:
        few: dict[str, Any] = {
            "data__loader": "memory",
            "data__cache_dir": str(digits_cache),
            "train_examples": 100,
            "batch_size": 32,
            "epochs": 4,
            "attack__num_steps": 2,
            "eval__lam_grid": "0,1",
            "eval__every": 1,
            "eval__val_examples": 45,
            "eval__val_steps": 1,
            "eval__test_examples": 61,
            "eval__attack__num_steps": 2,
            "eval__batch_size": 20,
            "precision__train": "float32",
            "launch": "local",
        }
        found: Config = tiny(method, model, **few | settings)
        return found

    return config
