"""Show the status of runs from their files: `python -m distcond.status RUN_OR_ROOT ... [OPTION=VALUE] [--watch]`.

    python -m distcond.status runs                      every run below a folder
    python -m distcond.status s3://bucket/runs          the same at a URI; see docs/storage.md
    python -m distcond.status runs --watch              refreshed every few seconds until Ctrl-C
    python -m distcond.status runs format=json          for scripts

States: failed (ended with an error), stale (no update for stale= seconds, as after a kill or a power cut), stopped (on
request), running, waiting (not started), finished. Those that need attention come first. SA and RA are in percent at
the smallest and the largest lam: on validation while the run trains, on test once it is finished. `left` is the run's
own estimate. `tries` counts starts, restarts of workers included.

  format=text        text or json
  stale=120          seconds without an update after which a run counts as stale
  --watch            refresh on a terminal

Exit status: 0, or 1 if a run failed.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from distcond.config.command_line import run_cli
from distcond.config.fields import check_bounds, check_choice, parse_value
from distcond.errors import ConfigError
from distcond.registry import describe_unknown
from distcond.runs.run_files import find_runs
from distcond.runs.state_files import StatusFiles
from distcond.runs.status import (
    STALE_SECONDS,
    RunStatus,
    read_status,
    sort_statuses,
    statuses_as_json,
    statuses_as_table,
)
from distcond.storage.uri import is_uri, uri_name

OPTIONS = ("format", "stale")

#: Seconds between two refreshes of --watch, for folders and for URIs.
REFRESH_SECONDS, REFRESH_SECONDS_AT_URI = 2.0, 10.0


@dataclass(frozen=True)
class StatusQuery:
    """A parsed command line."""

    places: list[str] = field(default_factory=list)
    format: str = "text"
    stale: float = STALE_SECONDS
    watch: bool = False


def main(argv: Sequence[str]) -> int:
    """Print the status of the runs; returns the exit status, 1 if a run failed."""
    if not argv or set(argv) & {"--help", "-h"}:
        print(__doc__)
        return 0
    query = parse_query(argv)
    statuses = collect_statuses(query)
    if query.watch:
        return watch(query, statuses)
    print(statuses_as_json(statuses) if query.format == "json" else statuses_as_table(statuses, _columns()))
    return _exit_status(statuses)


def parse_query(argv: Sequence[str]) -> StatusQuery:
    """Parse a command line.

    Raises:
        ConfigError: no folder, or an invalid option.
    """
    places = [arg for arg in argv if not arg.startswith("-") and (is_uri(arg) or "=" not in arg)]
    options = dict(arg.split("=", 1) for arg in argv if arg not in places and "=" in arg)
    for name in [*options, *(arg for arg in argv if arg.startswith("-") and arg != "--watch")]:
        if name not in OPTIONS:
            raise ConfigError(describe_unknown("option of a status", name, [*OPTIONS, "--watch"]))
    if not places:
        raise ConfigError("no folder; name a run directory or a directory of runs")
    stale = parse_value("stale", options.get("stale", STALE_SECONDS), float)
    check_bounds("stale", stale, {"gt": 0})
    format = check_choice("format", options.get("format", "text"), ("text", "json"))
    return StatusQuery(places, format, stale, "--watch" in argv)


def collect_statuses(query: StatusQuery) -> list[RunStatus]:
    """The status of every run at or below the places of a query, sorted.

    Raises:
        ConfigError: no run there, or a URI that cannot be read.
    """
    with ThreadPoolExecutor(16) as pool:  # reading waits for the file system
        statuses = list(pool.map(lambda run: read_status(run[1], run[0], query.stale), _find_runs(query.places)))
    if not statuses:
        raise ConfigError(f"{', '.join(query.places)}: no run here; name a run directory or a directory of runs")
    return sort_statuses(statuses)


def watch(query: StatusQuery, statuses: list[RunStatus]) -> int:
    """Refresh the table until Ctrl-C; returns the exit status.

    Raises:
        ConfigError: standard output is not a terminal.
    """
    if not sys.stdout.isatty():
        raise ConfigError("--watch: standard output is not a terminal; leave it out")
    pause = REFRESH_SECONDS_AT_URI if any(map(is_uri, query.places)) else REFRESH_SECONDS
    trouble = ""
    try:
        while True:
            print(f"\x1b[H\x1b[2J{statuses_as_table(statuses, _columns())}{trouble}", flush=True)
            time.sleep(pause)
            try:
                statuses, trouble = collect_statuses(query), ""
            except (ConfigError, OSError) as error:  # storage may be unreachable for a while
                trouble = f"\n{error}; retrying"
    except KeyboardInterrupt:
        return _exit_status(statuses)


def _exit_status(statuses: Sequence[RunStatus]) -> int:
    return int(any(run.state == "failed" for run in statuses))


def _find_runs(places: Sequence[str]) -> Iterator[tuple[str, StatusFiles]]:
    """Name and files of every run. The name is its path below the place, or its own."""
    for place in places:
        if is_uri(place):
            from distcond.storage.stored_runs import list_stored_runs

            yield from ((run.name or uri_name(place), run) for run in list_stored_runs(place))
            continue
        root = Path(place).expanduser()
        for files in find_runs(root):
            below = Path(files.path).relative_to(root)
            yield str(below) if below.parts else root.absolute().name, files


def _columns() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 0


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
