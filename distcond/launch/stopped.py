"""Where a run stands that was stopped."""

from __future__ import annotations

from pathlib import Path

from distcond.engine.checkpoint import newest, place_of
from distcond.engine.run_dir import RunDir


def where(run_path: Path) -> str:
    """`a checkpoint after epoch 3`, `a checkpoint in epoch 4, after its step 120`, or that there is none."""
    checkpoint = newest(RunDir(run_path).checkpoints)
    if checkpoint is None:
        return "before the first checkpoint"
    place = place_of(checkpoint)
    if place.step:
        return f"checkpoint in epoch {place.epoch + 1}, after its step {place.step}"
    return f"checkpoint after epoch {place.epoch}"
