"""Where a run stands that was stopped."""

from __future__ import annotations

from pathlib import Path

from distcond.engine.checkpoint import moment_of, newest
from distcond.engine.run_dir import RunDir


def where(run_path: Path) -> str:
    """`checkpoint after epoch 3`, `checkpoint in epoch 4, after its step 120`, or that none is there or to be seen."""
    if not run_path.is_dir():
        return f"{run_path} is away, and with it the last checkpoint"
    checkpoint = newest(RunDir(run_path).checkpoints)
    if checkpoint is None:
        return "before the first checkpoint"
    moment = moment_of(checkpoint)
    if moment.step:
        return f"checkpoint in epoch {moment.epoch + 1}, after its step {moment.step}"
    return f"checkpoint after epoch {moment.epoch}"
