"""Two small runs, and a pair of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distcond import pair
from distcond.distributed.world import World
from distcond.runs.run_dir import RunDir
from distcond.training.fit import fit


@pytest.fixture(scope="session")
def quick_options() -> tuple[str, ...]:
    """Options of a quick evaluation."""
    grid, images = "eval.dial_grid=0,0.5,1", ("eval.test_examples=40", "eval.val_examples=40", "eval.batch_size=20")
    return (grid, *images, "eval.sentinel=off", "launch.workers=1")


@pytest.fixture(scope="session")
def make_run(tiny: Any, digits_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_run(method, **settings)`: the directory of a run of one epoch."""

    def make(method: str, **settings: Any) -> Path:
        quick_options: dict[str, Any] = {
            "data__loader": "memory", "data__cache_dir": str(digits_cache), "epochs": 1, "batch_size": 32,
            "train_examples": 200, "attack__num_steps": 1, "attack__epsilon": 0.1, "attack__step_size": 0.1,
            "eval__attack__epsilon": 0.1, "eval__attack__step_size": 0.05, "eval__attack__num_steps": 2,
            "eval__every": 0, "eval__val_examples": 20, "eval__val_steps": 1, "eval__test_examples": 20,
            "eval__train_examples": 0, "precision__train": "float32", "launch": "local", "optim__lr": 0.05,
            "eval__lam_grid": "0,1", "eval__sentinel": "off",
        }  # fmt: skip
        config, path = tiny(method, **quick_options | settings), tmp_path_factory.mktemp(method) / f"{method}-run"
        with RunDir(path).begin(config):
            fit(config, World(), path)
        return path

    return make


@pytest.fixture(scope="session")
def standard(make_run: Callable[..., Path]) -> Path:
    """A standard run."""
    return make_run("standard", seed=1)


@pytest.fixture(scope="session")
def robust(make_run: Callable[..., Path], standard: Path) -> Path:
    """A robust run initialised from the standard one."""
    return make_run("pgd_at", init_from=str(standard))


@pytest.fixture(scope="session")
def paired(
    standard: Path, robust: Path, quick_options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The pair of both, evaluated along each dial."""
    root = tmp_path_factory.mktemp("pairs")
    words = [f"run_root={root}", "mix=weights,outputs,mixednuts,folded", "attack=fgsm", *quick_options]
    assert pair.main([str(standard), str(robust), *words]) == 0
    (found,) = root.iterdir()
    return found
