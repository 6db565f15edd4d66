"""Which attempt of a run this is (`attempt.json`): launchers restart workers without asking the driver."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distcond.atomic_io import read_json, write_json
from distcond.distributed.collectives import all_gather_text
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.run_layout import ATTEMPT_FILE
from distcond.runs.failures import WorkerError, kind_of, one_line
from distcond.runs.remote import RemoteRun


def begin_attempt(world: World, run_path: Path, base: int, home: RemoteRun | None = None) -> tuple[Path, int]:
    """Count one more start of the workers; the run directory and the attempt of rank 0, the same on every rank.

    Args:
        world: the workers.
        run_path: where this worker works at the run.
        base: the lowest number that the attempt may have.
        home: of a run at a URI. Rank 0 may come from a machine that had no part in the run so far: what counts is the
            number there, and it is there before anything else of the attempt is.

    Raises:
        WorkerError: the directory or the home cannot be read or written, or another worker went away.
    """
    attempt = base
    try:
        if world.first:
            attempt = next_attempt(run_path, base, home)
            write_json(run_path / ATTEMPT_FILE, {"attempt": attempt, "workers": world.size})
            if home is not None:
                home.put(ATTEMPT_FILE)
        number, path = all_gather_text(world, f"{attempt} {run_path}")[0].split(" ", 1)
    except (OSError, RuntimeError, ConfigError) as error:
        raise WorkerError(kind_of(error), one_line(error), world.rank) from error
    return Path(path), int(number)


def next_attempt(run_path: Path, base: int, home: RemoteRun | None = None) -> int:
    """`base` or, if the run has got there already, one more than its last attempt."""
    there = json.loads(home.text(ATTEMPT_FILE) or "{}") if home is not None else {}
    return max([base, *(int(record["attempt"]) + 1 for record in (_last(run_path), there) if record)])


def last_attempt(run_path: Path) -> int | None:
    """The newest attempt of a run, None before the first."""
    attempt: int | None = _last(run_path).get("attempt")
    return attempt


def last_world_size(run_path: Path) -> int | None:
    """How many workers the newest attempt of a run has, None before the first."""
    workers: int | None = _last(run_path).get("workers")
    return workers


def _last(run_path: Path) -> dict[str, Any]:
    file = run_path / ATTEMPT_FILE
    record: dict[str, Any] = read_json(file) if file.exists() else {}
    return record
