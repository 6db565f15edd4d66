"""Runs as text: what distinguishes them, and how they stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cluster.slurm.grid import text
from cluster.slurm.identify import Run
from cluster.slurm.state import STATES, Standing


def varying(runs: Sequence[Run]) -> list[str]:
    """The settings in which the runs differ, in the order of the grid."""
    paths = list(dict.fromkeys(path for run in runs for path in run.overrides))
    return [path for path in paths if len({text(run.overrides.get(path)) for run in runs}) > 1]


def runs_table(runs: Sequence[Run]) -> str:
    """One line a run: number, name, and its values of what varies."""
    paths = varying(runs)
    rows = [["", "run", *paths]]
    rows += [[str(n), run.run_id, *(_short(run, path) for path in paths)] for n, run in enumerate(runs)]
    return _aligned(rows)


def standing_table(standings: Sequence[Standing], every: bool) -> str:
    """Counts, then one line for each run that is not finished (or for every run)."""
    paths = varying([one.run for one in standings])
    rows = [["", "run", *paths, "state", "job", ""]]
    rows += [
        [str(n), one.run.run_id, *(_short(one.run, path) for path in paths), one.state, one.job, one.detail]
        for n, one in enumerate(standings)
        if every or one.state != "finished"
    ]
    return f"{counts(standings)}\n" + (f"\n{_aligned(rows)}\n" if len(rows) > 1 else "")


def counts(standings: Sequence[Standing]) -> str:
    """ "12 runs: 8 finished, 4 failed"."""
    number = Counter(one.state for one in standings)
    said = [f"{number[state]} {state}" for state in STATES if number[state]]
    return f"{len(standings)} run{'s' if len(standings) != 1 else ''}: {', '.join(said)}"


def _short(run: Run, path: str) -> str:
    value = run.overrides.get(path)
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else text(value)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
