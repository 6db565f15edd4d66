"""Starts of a run's workers: the attempt number (`attempt.json`).

Launchers restart workers without asking the driver, so the workers count attempts themselves.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distcond.atomic_io import read_json, write_json
from distcond.distributed.world import World, all_gather_text
from distcond.errors import ConfigError
from distcond.results.store import scan_runs
from distcond.run_layout import ATTEMPT_FILE, LINEAGE_FILE
from distcond.runs.checkpoint import latest, step_of
from distcond.runs.failures import WorkerError, classify_error, format_error_line
from distcond.runs.remote import RemoteRun
from distcond.runs.run_dir import RunDir


def begin_attempt(world: World, run_path: Path, base: int, remote: RemoteRun | None = None) -> tuple[Path, int]:
    """Count one more start of the workers. Collective.

    Args:
        world: the workers.
        run_path: this worker's copy of the run directory.
        base: the lowest number that the attempt may have.
        remote: the run at its URI, if it has one. Rank 0 may be on a machine that had no part in the run so far, so the
            remote number counts, and is uploaded before anything else of the attempt.

    Returns:
        The run directory and the attempt number of rank 0, the same on every rank.

    Raises:
        WorkerError: the directory or the remote cannot be read or written, or another worker is gone.
    """
    attempt = base
    try:
        if world.first:
            attempt = next_attempt(run_path, base, remote)
            write_json(run_path / ATTEMPT_FILE, {"attempt": attempt, "workers": world.size})
            if remote is not None:
                remote.upload(ATTEMPT_FILE)
        number, path = all_gather_text(world, f"{attempt} {run_path}")[0].split(" ", 1)
    except (OSError, RuntimeError, ConfigError) as error:
        raise WorkerError(classify_error(error), format_error_line(error), world.rank) from error
    return Path(path), int(number)


def next_attempt(run_path: Path, base: int, remote: RemoteRun | None = None) -> int:
    """One more than the latest attempt of the run, but at least `base`."""
    records = [_read_attempt(run_path)]
    if remote is not None:
        records.append(_parse_attempt(remote.read_text(ATTEMPT_FILE).encode()) or {})
    return max([base, *(record["attempt"] + 1 for record in records if record)])


def last_attempt(run_path: Path) -> int | None:
    """The latest attempt of a run; None before the first."""
    attempt: int | None = _read_attempt(run_path).get("attempt")
    return attempt


def last_world_size(run_path: Path) -> int | None:
    """The number of workers of the latest attempt; None before the first."""
    workers: int | None = _read_attempt(run_path).get("workers")
    return workers


def _read_attempt(run_path: Path) -> dict[str, Any]:
    """The record of the latest attempt; of a damaged file, the attempt of the latest rows."""
    try:
        content = (run_path / ATTEMPT_FILE).read_bytes()
    except FileNotFoundError:
        return {}
    return _parse_attempt(content) or _attempt_of_rows(run_path)


def _parse_attempt(content: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(content)
    except ValueError:
        return None
    if not (isinstance(record, dict) and isinstance(record.get("attempt"), int)):
        return None
    workers = record.get("workers")
    return {"attempt": record["attempt"], **({"workers": workers} if isinstance(workers, int) else {})}


def _attempt_of_rows(run_path: Path) -> dict[str, Any]:
    """Rows of a later attempt replace those of an earlier one, so the next attempt must be later than every row."""
    attempts = [row.attempt for rows in scan_runs([run_path]).rows.values() for row in rows]
    return {"attempt": max(attempts)} if attempts else {}


def first_epoch(run_path: Path) -> int:
    """The first epoch in the history of a run: 1, or of a run that continues another one, the epoch after that."""
    file = run_path / LINEAGE_FILE
    record = read_json(file) if file.exists() else {}
    epoch = record.get("epoch", 0) if isinstance(record, dict) else 0
    return epoch + 1 if isinstance(epoch, int) else 1


def epochs_done(run_path: Path) -> int:
    """Completed epochs at the run's latest checkpoint; 0 before the first."""
    last = latest(RunDir(run_path).checkpoints)
    return step_of(last).epoch if last is not None else 0
