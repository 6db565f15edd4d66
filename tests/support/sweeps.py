"""Starts small sweeps as commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from distcond.results import history
from distcond.results.pareto import area
from distcond.tuning.sweep_report.experiment import TrialRecord
from distcond.tuning.sweep_report.read import read_sweep
from support import processes

#: Time limit of a sweep in seconds.
LIMIT = 5 * processes.LIMIT

#: One trial at a time.
ONE = "concurrent=1"

#: Runs of a second or two after start-up.
TINY = (
    "epochs=2", "train_examples=64", "batch_size=32", "model.widths=4,8", "attack.num_steps=1", "eval.every=1",
    "eval.lam_grid=0,1", "eval.val_examples=32", "eval.val_steps=1", "eval.test_examples=32", "eval.attack.num_steps=1",
    "eval.train_examples=0", "eval.sentinel=off",
)  # fmt: skip

SPACE = """
question = "Which learning rate?"
recipe = "float_digits"
trials = {trials}

[space."optim.lr"]
kind = "loguniform"
low = 0.01
high = 0.3
"""


def command(place: Any, *words: str, **variables: str) -> processes.Process:
    """Start `python -m distcond.tune` in `place.path`, with its own Ray.

    On a Ray that was started elsewhere trials are slower: Ray Train adds a clean-up process.
    """
    environment = {**place.environment, **variables}
    command = [sys.executable, "-m", "distcond.tune", *words]
    return processes.start(command, cwd=place.path, env=environment, limit=LIMIT)


def begin(place: Any, trials: int, *words: str, space: str = SPACE, **variables: str) -> processes.Process:
    """Start a small sweep in `place.path / "sweep"`."""
    return command(place, *small(place.path, trials, space), *words, **variables)


def small(folder: Path, trials: int, space: str = SPACE) -> list[str]:
    """The arguments of a small sweep in `folder / "sweep"`; writes its space to `folder`."""
    (folder / "space.toml").write_text(space.format(trials=trials))
    return ["space.toml", "dir=sweep", f"data.cache_dir={folder / 'cache'}", "data.loader=memory", *TINY]


def trials(sweep: Path) -> tuple[TrialRecord, ...]:
    """The trials, in the order of their creation."""
    return read_sweep(sweep).trials


def volume(run: Path) -> float:
    """The hypervolume of a run's best checkpoint on validation."""
    best = max(history.read(run), key=lambda record: record["val_score"])["val"]
    return area([(at["sa"], at["ra"]) for at in best])
