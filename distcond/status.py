"""Every run at a glance, from its files alone: `python -m distcond.status RUN_OR_ROOT ... [WORD=VALUE] [--watch]`.

    python -m distcond.status runs                      every run below a folder
    python -m distcond.status s3://bucket/runs          the same at a URI; see docs/storage.md
    python -m distcond.status runs --watch              again every few seconds, until Ctrl-C
    python -m distcond.status runs format=json          for programs

failed: it ended with an error. stale: no word for longer than stale= seconds, as after a kill or a power cut. stopped:
it was told to stop, or the machine of its launcher was. running, waiting (nothing done yet), finished. What needs a
look comes first. SA and RA are in percent at the smallest and the largest lam: of the last validation, on test once a
run is finished. `left` is the run's own estimate. `tries` counts starts, restarts of workers included.

  format=text        text or json
  stale=120          seconds without a word after which a run counts as stale
  --watch            refresh on a terminal

Exit status: 0, or 1 if a run failed.
"""

from __future__ import annotations

import shutil
import signal
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
from distcond.runs.status import (
    STALE_SECONDS,
    RunStatus,
    StatusFiles,
    read_status,
    sort_statuses,
    statuses_as_json,
    statuses_as_table,
)
from distcond.storage.uri import is_uri, uri_name

WORDS = ("format", "stale")

#: Seconds between two looks of --watch, at folders and at URIs.
REFRESH_SECONDS, REFRESH_SECONDS_AT_URI = 2.0, 10.0


@dataclass(frozen=True)
class StatusQuery:
    """Places, the form of the answer, and how often."""

    places: list[str] = field(default_factory=list)
    form: str = "text"
    stale: float = STALE_SECONDS
    watch: bool = False


def main(argv: Sequence[str]) -> int:
    """Print how the runs stand; 1 if one failed."""
    if not argv or set(argv) & {"--help", "-h"}:
        print(__doc__)
        return 0
    asked = parse_query(argv)
    found = collect_statuses(asked)
    if asked.watch:
        return keep_watching(asked, found)
    print(statuses_as_json(found) if asked.form == "json" else statuses_as_table(found, _columns()))
    return int(any(run.state == "failed" for run in found))


def parse_query(argv: Sequence[str]) -> StatusQuery:
    """What a command line asks for.

    Raises:
        ConfigError: no place, or a word that is not valid.
    """
    places = [word for word in argv if not word.startswith("-") and (is_uri(word) or "=" not in word)]
    words = dict(word.split("=", 1) for word in argv if word not in places and "=" in word)
    for word in [*words, *(w for w in argv if w.startswith("-") and w != "--watch")]:
        if word not in WORDS:
            raise ConfigError(describe_unknown("word of a status", word, [*WORDS, "--watch"]))
    if not places:
        raise ConfigError("no folder; name a run directory or a directory of runs")
    stale = parse_value("stale", words.get("stale", STALE_SECONDS), float)
    check_bounds("stale", stale, {"gt": 0})
    form = check_choice("format", words.get("format", "text"), ("text", "json"))
    return StatusQuery(places, form, stale, "--watch" in argv)


def collect_statuses(asked: StatusQuery) -> list[RunStatus]:
    """How every run at or below the places stands.

    Raises:
        ConfigError: nothing there, or a URI that cannot be read.
    """
    with ThreadPoolExecutor(16) as pool:  # most of the time goes into waiting for files
        found = list(pool.map(lambda at: read_status(at[1], at[0], asked.stale), _runs(asked.places)))
    if not found:
        raise ConfigError(f"{', '.join(asked.places)}: no run here; name a run directory or a directory of runs")
    return sort_statuses(found)


def keep_watching(asked: StatusQuery, found: list[RunStatus]) -> int:
    """Show the table again and again.

    Raises:
        ConfigError: standard output is no terminal.
    """
    if not sys.stdout.isatty():
        raise ConfigError("--watch: standard output is no terminal; leave it out")
    pause = REFRESH_SECONDS_AT_URI if any(map(is_uri, asked.places)) else REFRESH_SECONDS
    trouble = ""
    try:
        while True:
            print(f"\x1b[H\x1b[2J{statuses_as_table(found, _columns())}{trouble}", flush=True)
            time.sleep(pause)
            try:
                found, trouble = collect_statuses(asked), ""
            except (ConfigError, OSError) as error:  # a storage that is away for a while
                trouble = f"\n{error}; still looking"
    except KeyboardInterrupt:
        return int(any(run.state == "failed" for run in found))


def _runs(places: Sequence[str]) -> Iterator[tuple[str, StatusFiles]]:
    """Name and files of every run: its own name, or its path below the place."""
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
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # status | head
    run_cli(lambda: main(sys.argv[1:]))
