"""Which start of a run this is. Launchers restart workers without asking the driver, so the run itself keeps count."""

from __future__ import annotations

from pathlib import Path

from distcond.engine.run_dir import read_json, write_json
from distcond.engine.world import World
from distcond.launch.failure import WorkerError, kind_of, one_line
from distcond.launch.texts import everyones

FILE = "attempt.json"


def begin_attempt(world: World, run_path: Path, base: int) -> tuple[Path, int]:
    """Count one more start of the workers; the run directory and the attempt of rank 0, the same on every rank.

    Raises:
        WorkerError: the directory cannot be written, or another worker went away.
    """
    attempt = base
    try:
        if world.first:
            attempt = next_attempt(run_path, base)
            write_json(run_path / FILE, {"attempt": attempt, "workers": world.size})
        number, path = everyones(world, f"{attempt} {run_path}")[0].split(" ", 1)
    except (OSError, RuntimeError) as error:
        raise WorkerError(kind_of(error), one_line(error), world.rank) from error
    return Path(path), int(number)


def next_attempt(run_path: Path, base: int) -> int:
    """`base` or, if the run has got there already, one more than its last attempt."""
    last = last_attempt(run_path)
    return base if last is None else max(base, last + 1)


def last_attempt(run_path: Path) -> int | None:
    """The newest attempt of a run, None before the first."""
    found = _last(run_path)
    return found[0] if found else None


def last_workers(run_path: Path) -> int | None:
    """How many workers the newest attempt of a run has, None before the first."""
    found = _last(run_path)
    return found[1] if found else None


def _last(run_path: Path) -> tuple[int, int | None] | None:
    file = run_path / FILE
    if not file.exists():
        return None
    record = read_json(file)
    return int(record["attempt"]), record.get("workers")
