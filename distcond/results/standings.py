"""Many runs at a glance, as a table that fits a terminal or as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict

from distcond.results.label import duration
from distcond.results.standing import STATES, Standing

_HEAD = ("state", "run", "stage", "epoch", "done", "SA %", "RA %", "img/s", "left", "tries", "")


def in_order(standings: Iterable[Standing]) -> list[Standing]:
    """What needs a look first, then by place."""
    return sorted(standings, key=lambda s: (STATES.index(s.state), s.place))


def as_json(standings: Iterable[Standing]) -> str:
    """A JSON list, one object per run with all fields of `Standing`."""
    return json.dumps([asdict(standing) for standing in standings], indent=1)


def as_table(standings: list[Standing], width: int) -> str:
    """A line per run, cut to `width` columns (0 = not cut), under a line that counts the states."""
    counts = Counter(standing.state for standing in standings)
    summary = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    rows = [_HEAD, *map(_row, standings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    right = range(3, len(_HEAD) - 1)
    lines = [
        "  ".join(
            cell.rjust(w) if column in right else cell.ljust(w) for column, (cell, w) in enumerate(cells)
        ).rstrip()
        for cells in (list(zip(row, widths, strict=True)) for row in rows)
    ]
    return "\n".join([f"{len(standings)} runs: {summary}", *(_cut(line, width) for line in lines)])


def _row(run: Standing) -> tuple[str, ...]:
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
        "" if run.seconds_left is None else duration(run.seconds_left),
        str(run.attempts) if run.attempts else "",
        _said(run),
    )


def _said(run: Standing) -> str:
    silent = f"no word for {duration(run.heard)}" if run.state == "stale" and run.heard is not None else ""
    return "; ".join(filter(None, (silent, run.note, run.error)))


def _percent(values: tuple[float, ...]) -> str:
    return "/".join(f"{100 * value:.1f}" for value in values)


def _cut(line: str, width: int) -> str:
    return line if not width or len(line) <= width else f"{line[: width - 1]}…"
