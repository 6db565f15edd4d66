"""A sweep as it is on disk: what was asked, and one row per trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distcond.errors import ConfigError
from distcond.storage.uri import is_uri
from distcond.tuning.sweep_report.experiment import (
    EXPERIMENT,
    TrialRecord,
    is_experiment,
    read_trials,
    record_from_plain,
    reported_objectives,
)

FILE, RUNS, TRIALS = "sweep.json", "runs", "trials"
SCHEMA_VERSION = 2
Plain = dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """What was asked, and all trials, by number.

    Attributes:
        path: its directory; of an experiment of a user's own script, that one.
        space: name, question, recipe, axes and fixed settings.
        options: of the sweep; empty for a script.
        objectives: what was compared.
        up: of each objective, whether more is better.
        compared: in a line, with attack and budget.
        trials: all of them.
    """

    path: Path
    space: Mapping[str, Any]
    options: Mapping[str, Any]
    objectives: tuple[str, ...]
    up: tuple[bool, ...]
    compared: str
    trials: tuple[TrialRecord, ...] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """Of the space, or of the experiment."""
        return str(self.space["name"])

    @property
    def settings(self) -> list[str]:
        """Paths that vary, in the order of the space; those of a function in the order in which trials brought them."""
        return list(dict.fromkeys(path for trial in self.trials for path in trial.params))

    def rows(self) -> list[Plain]:
        """One flat row per trial; None where a trial does not have it."""
        return [self._row(trial) for trial in self.trials]

    def _row(self, trial: TrialRecord) -> Plain:
        values = trial.values or (None,) * len(self.objectives)
        row = {"trial": trial.number, "state": trial.state}
        row |= {path: trial.params.get(path) for path in self.settings}
        row |= dict(zip(self.objectives, values, strict=True)) | {"sa": trial.sa, "ra": trial.ra}
        row |= {"epochs": trial.epochs, "seconds": trial.seconds, "train_flops": trial.flops}
        return row | {"run": trial.run, "error": trial.error}


def is_sweep(path: Path | str) -> bool:
    """Whether a directory is a sweep of distcond.tune, or an experiment of Ray Tune."""
    return (Path(path) / FILE).is_file() or is_experiment(Path(path).expanduser())


def read_sweep(path: Path | str) -> Sweep:
    """The sweep at a path or a URI: of `distcond.tune`, exported from cluster jobs, or a user's own experiment.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    if is_uri(str(path)):
        from distcond.runs.run_cache import fetch_run  # imports torch

        path = fetch_run(str(path), checkpoints=False)
    path = Path(path).expanduser().absolute()
    if not (path / FILE).is_file():
        if is_experiment(path):
            return _read_script(path)
        raise ConfigError(
            f"{path}: no sweep here ({FILE} is missing); name a directory of distcond.tune, or of a Ray Tune experiment"
        )
    try:
        asked = json.loads((path / FILE).read_text(encoding="utf-8"))
        if not isinstance(asked, dict) or asked.get("schema_version") != SCHEMA_VERSION:
            from distcond.tuning.sweep_dir import check_schema  # imports torch

            check_schema(asked, path / FILE)
        objectives = asked["options"]["objective"]
        files = sorted((path / TRIALS).glob("[0-9]*.json"))
        trials = [record_from_plain(json.loads(file.read_text(encoding="utf-8"))) for file in files]
        if is_experiment(path / EXPERIMENT):
            trials = read_trials(path / EXPERIMENT, objectives, path / RUNS)
        return Sweep(
            path, asked["space"], asked["options"], tuple(objectives), tuple(asked["up"]), asked["compared"],
            tuple(trials),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: a file of the sweep is damaged ({error!r})") from error


def run_directory(run: str) -> Path | None:
    """The directory of a trial's run, for one at a URI a copy without checkpoints; None if it is gone."""
    if is_uri(run):
        from distcond.runs.run_cache import fetch_run  # imports torch

        return fetch_run(run, checkpoints=False)
    return Path(run) if run and Path(run).is_dir() else None


def _read_script(path: Path) -> Sweep:
    """The experiment of a user's own script. What `sweep.json` would say comes from the first run's config."""
    names = reported_objectives(path)
    trials = read_trials(path, names)
    run = next((found for trial in trials if (found := run_directory(trial.run))), None)
    if run is None:
        raise ConfigError(f"{path}: none of its trials has a run directory here; report where the runs are")
    from distcond.runs.run_dir import RunDir  # imports torch, as do the objectives
    from distcond.tuning.objective import described, read_objective

    config = RunDir(run).config()
    objectives = [read_objective(name, config) for name in names]
    space = {"name": path.name, "question": "", "recipe": config.recipe, "axes": {}, "fixed": {}}
    up, compared = tuple(one.up for one in objectives), described(objectives, config, (0.0, 0.0))
    return Sweep(path, space, {}, tuple(names), up, compared, tuple(trials))
