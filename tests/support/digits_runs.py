"""Fixtures: runs on a few digits that take about a second."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import support.same_run
from distcond.config.schema import Config


@pytest.fixture(scope="session")
def digits_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory for the converted digits, shared by all runs."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    return tmp_path_factory.mktemp("digits")


@pytest.fixture(scope="session")
def same_run() -> Any:
    """The module `support.same_run`."""
    return support.same_run


@pytest.fixture(scope="session")
def small(tiny: Any, digits_cache: Path) -> Callable[..., Config]:
    """`small(method, **settings)`: the config of a run of four epochs with three steps each."""

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
        run: Config = tiny(method, model, **few | settings)
        return run

    return config


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Config], Path]:
    """`whole(config)`: the directory of an uninterrupted run, trained once per session. Read only."""
    from distcond.distributed.world import World
    from distcond.runs.run_dir import RunDir
    from distcond.training.fit import fit

    paths: dict[str, Path] = {}

    def path(config: Config) -> Path:
        if repr(config) not in paths:
            run_path = tmp_path_factory.mktemp("whole") / "run"
            with RunDir(run_path).begin(config):
                fit(config, World(), run_path)
            paths[repr(config)] = run_path
        return paths[repr(config)]

    return path


@pytest.fixture(scope="session")
def trained(tiny: Any, digits_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a FLOAT run on the digits, accurate enough that attacks break some examples but not all."""
    from distcond.distributed.world import World
    from distcond.runs.run_dir import RunDir
    from distcond.training.fit import fit

    config = tiny(
        "float",
        data__loader="memory", data__cache_dir=str(digits_cache), epochs=6, batch_size=64, model__widths="8,16",
        attack__num_steps=1, attack__step_size=0.1, attack__epsilon=0.1, eval__attack__epsilon=0.1, optim__lr=0.05,
        eval__attack__step_size=0.05, eval__attack__num_steps=2, eval__lam_grid="0,1", eval__every=0,
        eval__val_examples=20, eval__val_steps=1, eval__test_examples=20, eval__train_examples=0,
        precision__train="float32", launch="local",
    )  # fmt: skip
    path = tmp_path_factory.mktemp("trained") / "run"
    with RunDir(path).begin(config):
        fit(config, World(), path)
    return path
