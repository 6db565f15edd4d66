"""Which start of a run this is. Launchers restart workers without asking the driver, so the run itself keeps count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch.distributed as dist

from distcond.engine.run_dir import read_json, write_json
from distcond.engine.world import World

FILE = "attempt.json"


def begin_attempt(world: World, run_path: Path, base: int) -> tuple[Path, int]:
    """Count one more start of the workers; the run directory and the attempt of rank 0, the same on every rank."""
    agreed: list[Any] = [str(run_path), base]
    if world.first:
        agreed[1] = next_attempt(run_path, base)
        write_json(run_path / FILE, {"attempt": agreed[1]})
    if world.size > 1:
        dist.broadcast_object_list(agreed, src=0)
    return Path(agreed[0]), agreed[1]


def next_attempt(run_path: Path, base: int) -> int:
    """`base` or, if the run has got there already, one more than its last attempt."""
    last = last_attempt(run_path)
    return base if last is None else max(base, last + 1)


def last_attempt(run_path: Path) -> int | None:
    """The newest attempt of a run, None before the first."""
    file = run_path / FILE
    return int(read_json(file)["attempt"]) if file.exists() else None
