"""What sweeps of training jobs on a cluster use: sample a search space, and export runs as trials for the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distcond.config.overrides import resolve, to_settings
from distcond.results import history
from distcond.tuning.axis import Axis
from distcond.tuning.objective import read_objective, spent, values
from distcond.tuning.space import Space, find_space
from distcond.tuning.sweep_dir import SweepDir
from distcond.tuning.trial import Trial
from distcond.tuning.words import Words, words_of

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
    from distcond.tuning.ray_backend.sweep import count, proposing

    space, words = find_space(name), words_of({"trials": trials, "search_seed": seed})
    proposer = proposing(space, words, [])
    samples = (proposer.propose(number) for number in range(count(space, words)))
    return space.recipe, [dict(sample) for sample in samples if sample is not None]


def export_trials(target: Path, name: str, runs: Sequence[JobRun], varied: Sequence[str]) -> None:
    """Write `sweep.json` and `trials/` into `target`, one trial per run, for `python -m distcond.report TARGET`.

    Args:
        target: the directory.
        name: of the sweep.
        runs: all runs, in order.
        varied: dotted paths in which they differ.
    """
    first, words, sweep = runs[0], Words(search="grid"), SweepDir(target)
    params = [_varied_values(run, varied) for run in runs]
    axes = tuple(Axis(path, "choice", values=tuple({str(one[path]): one[path] for one in params}.values()))
                 for path in varied)  # fmt: skip
    fixed = {path: value for path, value in first.overrides.items() if path not in varied}
    sweep.begin(Space(name, "", first.recipe, len(runs), axes=axes, fixed=fixed), words)
    for number, run in enumerate(runs):
        sweep.write(_trial(number, run, params[number], words))


def _trial(number: int, run: JobRun, params: dict[str, Any], words: Words) -> Trial:
    records, config = history.read(run.run_dir), resolve(run.recipe, run.overrides)
    objectives = [read_objective(name, config) for name in words.objective]
    flops, seconds = spent(records)
    curve = list[tuple[float, ...]]()
    for epoch in [record["epoch"] for record in records if record.get("val")]:
        scores = values(objectives, [record for record in records if record["epoch"] <= epoch], _REFERENCE)
        curve += [(epoch, *scores)] if scores else []
    return Trial(
        number,
        params,
        run.state,
        run.run_dir,
        epochs=records[-1]["epoch"] if records else 0,
        values=tuple(values(objectives, records, _REFERENCE)),
        curve=tuple(curve),
        flops=flops,
        seconds=seconds,
        error=run.error,
    )


def _varied_values(run: JobRun, varied: Sequence[str]) -> dict[str, Any]:
    """The run's values of the varied settings, typed: those of a grid are texts."""
    typed = to_settings(resolve(run.recipe, run.overrides))
    return {path: typed.get(path, typed.get(f"{path}.name", run.overrides.get(path, run.recipe))) for path in varied}
