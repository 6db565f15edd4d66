"""What sweeps of training jobs on a cluster use: sample a search space, and export runs as trials for the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distcond.atomic_io import write_json
from distcond.config.overrides import resolve, to_settings
from distcond.results import history
from distcond.tuning.axis import Axis
from distcond.tuning.objective import ends, read_objective, spent, values
from distcond.tuning.options import SweepOptions, read_options
from distcond.tuning.points import draw_points
from distcond.tuning.space import Space, find_space
from distcond.tuning.sweep_dir import SweepDir
from distcond.tuning.sweep_report.experiment import TrialRecord
from distcond.tuning.sweep_report.read import TRIALS

_REFERENCE = (0.0, 0.0)


class JobRun(NamedTuple):
    """A run of a cluster sweep.

    Attributes:
        recipe: its recipe.
        overrides: {dotted path: value} over the recipe.
        run_dir: its directory.
        state: "finished", "running", "waiting" or "failed".
        error: why it failed.
    """

    recipe: str
    overrides: dict[str, Any]
    run_dir: str
    state: str
    error: str = ""


def sample_space(name: str, trials: int, seed: int) -> tuple[str, list[dict[str, Any]]]:
    """The recipe of a search space and samples from it: those of `distcond.tune NAME search=random search_seed=SEED`.

    Args:
        name: a shipped space, a TOML file or `module:function`.
        trials: number of samples; 0 = the space's own number.
        seed: of the sampling.

    Raises:
        ConfigError: no such space, or an invalid number.
    """
    space, options = find_space(name), read_options({"trials": trials, "search_seed": seed})
    return space.recipe, draw_points(space, options)


def export_trials(target: Path, name: str, runs: Sequence[JobRun], varied: Sequence[str]) -> None:
    """Write `sweep.json` and `trials/` into `target`, one trial per run, for `python -m distcond.report TARGET`.

    Args:
        target: the directory.
        name: of the sweep.
        runs: all runs, in order.
        varied: dotted paths in which they differ.
    """
    first = runs[0]
    params = [_varied_values(run, varied) for run in runs]
    axes = tuple(Axis(path, "choice", values=tuple({str(one[path]): one[path] for one in params}.values()))
                 for path in varied)  # fmt: skip
    fixed = {path: value for path, value in first.overrides.items() if path not in varied}
    space = Space(name, "", first.recipe, len(runs), axes=axes, fixed=fixed)
    SweepDir(target).begin(space, SweepOptions(search="grid"))
    for number, run in enumerate(runs):
        write_json(target / TRIALS / f"{number:04d}.json", _record(number, run, params[number]).to_plain())


def _record(number: int, run: JobRun, params: dict[str, Any]) -> TrialRecord:
    records, config = history.read(run.run_dir), resolve(run.recipe, run.overrides)
    objectives = [read_objective(name, config) for name in SweepOptions().objective]
    flops, seconds = spent(records)
    curve = list[tuple[float, ...]]()
    for epoch in [record["epoch"] for record in records if record.get("val")]:
        scores = values(objectives, [record for record in records if record["epoch"] <= epoch], _REFERENCE)
        curve += [(epoch, *scores)] if scores else []
    sa, ra = ends(records) if curve else (None, None)
    return TrialRecord(
        number=number,
        params=params,
        state=run.state,
        run=run.run_dir,
        epochs=records[-1]["epoch"] if records else 0,
        values=tuple(values(objectives, records, _REFERENCE)),
        curve=tuple(curve),
        sa=sa,
        ra=ra,
        flops=flops,
        seconds=seconds,
        error=run.error,
    )


def _varied_values(run: JobRun, varied: Sequence[str]) -> dict[str, Any]:
    """The run's values of the varied settings, typed: those of a grid are texts."""
    typed = to_settings(resolve(run.recipe, run.overrides))
    return {path: typed.get(path, typed.get(f"{path}.name", run.overrides.get(path, run.recipe))) for path in varied}
