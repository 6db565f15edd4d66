"""A sweep of jobs in the form of one that `distcond.tune` made, so that both have the same report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster.slurm.grid import text
from cluster.slurm.identify import Run
from cluster.slurm.state import Standing
from cluster.slurm.table import varying
from distcond.config.overrides import resolve, to_settings
from distcond.results import history


def write_as_tuned(standings: Sequence[Standing], target: Path) -> None:
    """Write `sweep.json` and `trials/` into `target`, one trial a run, for `python -m distcond.report TARGET`."""
    from distcond.tuning.axis import Axis
    from distcond.tuning.objective import read_objective, spent, values
    from distcond.tuning.space import Space
    from distcond.tuning.sweep_dir import SweepDir
    from distcond.tuning.trial import Trial
    from distcond.tuning.words import Words

    runs = [one.run for one in standings]
    paths, first = varying(runs), runs[0]
    drawn = [_drawn(run, paths) for run in runs]
    axes = tuple(Axis(path, "choice", values=tuple(_distinct([one.get(path) for one in drawn]))) for path in paths)
    fixed = {path: value for path, value in first.overrides.items() if path not in paths}
    words, sweep = Words(search="grid"), SweepDir(target)
    sweep.begin(Space(target.parent.name, "", first.recipe, len(runs), axes=axes, fixed=fixed), words)
    for number, (run, state, _, detail) in enumerate(standings):
        records = history.read(run.run_dir)
        objectives = [read_objective(name, resolve(run.recipe, run.overrides)) for name in words.objective]
        flops, seconds = spent(records)
        found = [(r["epoch"], *_upto(objectives, records, r["epoch"], values)) for r in records if r.get("val")]
        sweep.write(
            Trial(
                number, drawn[number], "waiting" if state == "missing" else state, run.run_dir,
                epochs=records[-1]["epoch"] if records else 0, values=tuple(values(objectives, records, (0.0, 0.0))),
                curve=tuple(point for point in found if len(point) > 1), flops=flops, seconds=seconds,
                error=detail if state == "failed" else "",
            )
        )  # fmt: skip


def _upto(objectives: Any, records: Sequence[Any], epoch: int, values: Any) -> list[float]:
    found: list[float] = values(objectives, [record for record in records if record["epoch"] <= epoch], (0.0, 0.0))
    return found


def _drawn(run: Run, paths: Sequence[str]) -> dict[str, Any]:
    """What a run has of what varies, as numbers where they are: a grid's values are words."""
    typed = to_settings(resolve(run.recipe, run.overrides))
    return {path: typed.get(path, typed.get(f"{path}.name", run.overrides.get(path, run.recipe))) for path in paths}


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list({text(value): value for value in values}.values())
