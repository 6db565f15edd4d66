"""RunStatus: the state of a run, read from its files alone, and its display as a table or JSON. Imports no torch."""

from __future__ import annotations

import json
import re
import textwrap
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from distcond.results.labels import format_duration
from distcond.run_layout import FAILURES_DIR
from distcond.runs.state_files import StatusFiles, read_state_files
from distcond.terminal_text import printable_line

#: States in the order of display: those that need attention first.
STATES = ("failed", "stale", "stopped", "running", "waiting", "finished")

#: Seconds without an update of `progress.json` after which a run counts as stale.
STALE_SECONDS = 120.0


@dataclass(frozen=True)
class RunStatus:
    """A summary of one run. None where nothing is known.

    Attributes:
        share: of the run that is done, in [0, 1].
        split: of `sa` and `ra`: "val" while the run trains, "test" once it is finished.
        lams: the smallest and largest lam of the grid; `sa` and `ra` are the accuracies there, in [0, 1].
        seconds_left: the run's own estimate, minus the time since it was made.
        attempts: number of starts, restarts of the workers included.
        heard: seconds since the last update of `progress.json`.
        error: damaged files, and the latest failure, in one line.
        note: a warning of a running run, such as that its storage does not answer.
    """

    name: str
    place: str
    state: str
    stage: str = ""
    epoch: int | None = None
    epochs: int | None = None
    share: float | None = None
    split: str = ""
    lams: tuple[float, ...] = ()
    sa: tuple[float, ...] = ()
    ra: tuple[float, ...] = ()
    images_per_second: float | None = None
    seconds_left: float | None = None
    attempts: int = 0
    heard: float | None = None
    error: str = ""
    note: str = ""


def read_status(files: StatusFiles, name: str, stale: float = STALE_SECONDS, now: float | None = None) -> RunStatus:
    """Read the status from a run's files, any of which may be missing.

    Args:
        files: of the run.
        name: to show.
        stale: seconds without an update after which the run counts as stale.
        now: current time, seconds since 1970; None = the clock.
    """
    now = time.time() if now is None else now
    state_files = read_state_files(files)
    progress, finished = state_files.progress, state_files.finished
    starts, records, last = state_files.starts, state_files.records, state_files.attempt
    failure = _failure(files)
    attempts = max(len(starts), 0 if last is None else last + 1)
    heard = now - progress["time"] if "time" in progress else None
    state = _state(finished, starts, progress, failure, heard, stale, bool(records))
    epochs = progress.get("epochs") or (finished or {}).get("epochs")
    running = state == "running"
    return RunStatus(
        name=name,
        place=files.place,
        state=state,
        stage=progress.get("stage", ""),
        epoch=_epoch(progress, records),
        epochs=epochs,
        share=1.0 if finished is not None else _share(progress),
        **_accuracies(finished, records),
        images_per_second=_speed(progress, records),
        seconds_left=max(0.0, progress["seconds_left"] - (heard or 0))
        if running and "seconds_left" in progress
        else None,
        attempts=attempts,
        heard=heard,
        error="; ".join(filter(None, (state_files.remark, "" if state == "finished" else _error(starts, failure)))),
        note=progress.get("storage", "") if running else "",
    )


def _state(
    finished: Any, starts: list[Any], progress: dict[str, Any], failure: tuple[float, str] | None,
    heard: float | None, stale: float, begun: bool,
) -> str:  # fmt: skip
    if finished is not None:
        return "finished"
    if starts and starts[-1].get("ended"):
        return "failed" if starts[-1]["ended"].get("failed") else "stopped"
    if progress.get("stage") == "stopped":
        return "stopped"
    if heard is None:
        # No update: not started, or written by an old version without times.
        return "failed" if failure else "stale" if progress or begun else "waiting"
    if heard > stale:
        # A failure after the last update ended it.
        return "failed" if failure and failure[0] >= progress["time"] else "stale"
    return "running"


def _failure(files: StatusFiles) -> tuple[float, str] | None:
    """Time and text of the latest failure: the last line of its traceback."""
    times = files.names(FAILURES_DIR)
    names = [name for name in times if re.fullmatch(r"attempt-\d+-worker-\d+\.txt", name)]
    if not names:
        return None
    last = max(names, key=lambda name: (name.split("-")[1], times[name]))
    lines = (files.content(f"{FAILURES_DIR}/{last}", 8192) or b"").decode("utf-8", "replace").rstrip().splitlines()
    return times[last], textwrap.shorten(lines[-1], 200, placeholder=" ...") if lines else last


def _error(starts: list[Any], failure: tuple[float, str] | None) -> str:
    return _reason(starts) or (failure[1] if failure else "")


def _reason(starts: list[Any]) -> str:
    """Why the last start failed, as its driver recorded it; "" if it did not."""
    ended = starts[-1].get("ended") or {} if starts else {}
    return str(ended.get("why", "")) if ended.get("failed") else ""


def _epoch(progress: dict[str, Any], records: list[Any]) -> int | None:
    if "epoch" in progress:
        return min(int(progress["epoch"]) + (progress.get("stage") == "train"), int(progress["epochs"]))
    return int(records[-1]["epoch"]) if records else None


def _share(progress: dict[str, Any]) -> float | None:
    if not progress.get("epochs"):
        return None
    if "done" in progress:
        return float(progress["done"])
    steps = progress["epochs"] * progress["steps"]
    done = progress.get("epoch", 0) * progress["steps"] + progress.get("step", -1) + 1
    return min(1.0, done / steps) if steps else None


def _speed(progress: dict[str, Any], records: list[Any]) -> float | None:
    speed = progress.get("images_per_second") or (records[-1].get("images_per_second") if records else None)
    return None if speed is None else float(speed)


def _accuracies(finished: Any, records: list[Any]) -> dict[str, Any]:
    """SA and RA at the ends of the grid and the first width: on test of a finished run, else of the last validation."""
    points = _measured((finished or {}).get("points", []))
    split = "test" if points else "val"
    if not points:
        points = next(filter(None, (_measured(record.get("val") or []) for record in reversed(records))), [])
    points = sorted((p for p in points if p.get("width") == points[0].get("width")), key=_position)
    if not points:
        return {}
    ends = [points[0], points[-1]] if len(points) > 1 else points
    sa, ra = (tuple(float(point[name]) for point in ends) for name in ("sa", "ra"))
    return {"split": split, "lams": tuple(map(_position, ends)), "sa": sa, "ra": ra}


def _measured(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [point for point in points if point.get("sa") is not None and point.get("ra") is not None]


def _position(point: dict[str, Any]) -> float:
    """Position of an operating point on its grid: the share t of a blend, otherwise lam."""
    return float(point.get("blend_t", point["lam"]))


_HEAD = ("state", "run", "stage", "epoch", "done", "SA %", "RA %", "img/s", "left", "tries", "")


def sort_statuses(statuses: Iterable[RunStatus]) -> list[RunStatus]:
    """Sort by state, those that need attention first, then by path."""
    return sorted(statuses, key=lambda s: (STATES.index(s.state), s.place))


def statuses_as_json(statuses: Iterable[RunStatus]) -> str:
    """A JSON list, one object per run with all fields of `RunStatus`."""
    return json.dumps([asdict(status) for status in statuses], indent=1)


def statuses_as_table(statuses: list[RunStatus], width: int) -> str:
    """A line with the number of runs per state, then one line per run, cut to `width` columns (0 = not cut)."""
    counts = Counter(status.state for status in statuses)
    summary = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    rows = [_HEAD, *(tuple(map(printable_line, _row(status))) for status in statuses)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    right = range(3, len(_HEAD) - 1)
    lines = [
        "  ".join(
            cell.rjust(w) if column in right else cell.ljust(w) for column, (cell, w) in enumerate(cells)
        ).rstrip()
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join([f"{len(statuses)} runs: {summary}", *(_cut(line, width) for line in lines)])


def _row(run: RunStatus) -> tuple[str, ...]:
    at = f" at {'/'.join(f'{lam:g}' for lam in run.lams)}" if run.lams not in ((), (0.0, 1.0)) else ""
    return (
        run.state,
        run.name,
        run.stage if run.state != run.stage else "",
        f"{'?' if run.epoch is None else run.epoch}/{run.epochs}" if run.epochs else "",
        "" if run.share is None else f"{run.share:.0%}",
        _percent(run.sa) + (at if run.sa else ""),
        _percent(run.ra),
        "" if run.images_per_second is None else f"{run.images_per_second:.0f}",
        "" if run.seconds_left is None else format_duration(run.seconds_left),
        str(run.attempts) if run.attempts else "",
        _remarks(run),
    )


def _remarks(run: RunStatus) -> str:
    silent = f"no update for {format_duration(run.heard)}" if run.state == "stale" and run.heard is not None else ""
    return "; ".join(filter(None, (silent, run.note, run.error)))


def _percent(values: tuple[float, ...]) -> str:
    return "/".join(f"{100 * value:.1f}" for value in values)


def _cut(line: str, width: int) -> str:
    return line if not width or len(line) <= width else f"{line[: width - 1]}…"
