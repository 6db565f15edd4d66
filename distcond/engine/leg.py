"""A run may be trained in legs: up to so many epochs now, on from that checkpoint later, or never."""

from __future__ import annotations

from pathlib import Path

from distcond.engine.checkpoint import moment_of, newest
from distcond.engine.run_dir import RunDir, read_json, write_json

FILE = "leg.json"


def set_leg(run_path: Path, until: int) -> None:
    """Let the next start of the run end, with a checkpoint, after `until` epochs in all; 0 = with the run."""
    write_json(run_path / FILE, {"until": until})


def leg_over(run_path: Path, done: int) -> bool:
    """Whether a run that has done so many epochs pauses here: on every rank, since all see the file."""
    file = run_path / FILE
    until: int = read_json(file)["until"] if file.exists() else 0
    return 0 < until <= done


def epochs_done(run_path: Path) -> int:
    """Whole epochs at the run's newest checkpoint; 0 before the first."""
    last = newest(RunDir(run_path).checkpoints)
    return moment_of(last).epoch if last is not None else 0
