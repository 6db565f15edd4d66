"""Look again at what a sweep has found: its trials under a strong attack, the winner with fresh seeds.

A winner was chosen on one seed, one split and a cheap attack, as the best of many: it looks better than it is.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distcond.atomic_io import write_json
from distcond.config.overrides import NAMED_GROUPS, apply_overrides
from distcond.distributed.world import choose_device
from distcond.errors import ConfigError
from distcond.evaluation.make_plan import make_plan
from distcond.evaluation.rows import keep_rows
from distcond.evaluation.spec import read_spec
from distcond.launch.evaluate_driver import run_plan
from distcond.results.pareto import XY
from distcond.runs.run_cache import fetch_run, push_back
from distcond.runs.run_dir import RunDir
from distcond.storage.uri import child_uri, is_uri, open_store
from distcond.tuning.objective import Objective, read_objective
from distcond.tuning.options import SweepOptions, read_options
from distcond.tuning.points import Point, run_key
from distcond.tuning.ray_backend.tuner import run_sweep
from distcond.tuning.space import Space
from distcond.tuning.sweep_dir import CONFIRMED, RUNS, SweepDir
from distcond.tuning.sweep_report.commands import settings_over_recipe
from distcond.tuning.sweep_report.experiment import TrialRecord
from distcond.tuning.sweep_report.read import Sweep, read_sweep
from distcond.tuning.sweep_report.verdict import agreement, check_countable, counted, judge, same_order

#: Added to the seed of the sweep's runs: nobody has looked at these.
FRESH = 1000

#: Where the runs with fresh seeds are organised; their run directories are among the sweep's.
FOLDER = "confirm"


def confirm(place: str, seeds: int, attack: str, trials: int) -> dict[str, Any]:
    """Train the winner and the recipe with `seeds` fresh seeds each, evaluate all under `attack`, write `confirm.json`.

    Also `trials` trials of the sweep are evaluated, at the checkpoints that they were compared by: the best first, and
    those that were stopped only after all others. What exists already is not done again.

    Args:
        place: a sweep, or an experiment of a user's own script; a path or a URI.

    Raises:
        ConfigError: no finished trial, a winner that no single run repeats, or a first objective that is no accuracy.
    """
    sweep = read_sweep(place)
    ranked = finalists(sweep)
    best = ranked[0]
    space = unvaried_space(sweep, best)
    objective = read_objective(sweep.objectives[0], space.config({}))
    check_countable(objective)
    if best.lineage:
        raise ConfigError(f"{place}: trial {best.number} changed its settings on its way; no run with fresh seeds does")
    looked_at = [*ranked, *_stopped(sweep)][:trials]
    reference = sweep.options.get("reference", (0.0, 0.0))
    strong = [_value(trial.run, attack, "val", objective, reference) for trial in looked_at]
    cheap = [trial.values[0] for trial in looked_at]
    proxy = agreement([(trial.epochs, a, b) for trial, a, b in zip(looked_at, cheap, strong, strict=True)])
    fresh = [space.config({}).seed + FRESH + number for number in range(seeds)]
    runs = _train(place, sweep, space, best.params, fresh)
    values = {name: [_value(run, attack, "test", objective, reference) for run in of] for name, of in runs.items()}
    found = judge(values["winner"], values["recipe"], objective.name)
    result = {
        "winner": best.number,
        "objective": objective.name,
        "attack": attack,
        "finalists": [
            {"trial": trial.number, "epochs": trial.epochs, "chosen_by": a, "strong": b}
            for trial, a, b in zip(looked_at, cheap, strong, strict=True)
        ],
        "order_holds": same_order(cheap[: len(ranked)], strong[: len(ranked)]),
        "tau": proxy.tau,
        "proxy": str(proxy),
        "seeds": fresh,
        "values": values,
        "better": found.better,
        "verdict": str(found),
    }
    write_json(sweep.path / CONFIRMED, result)
    if is_uri(place):
        open_store(place).put_bytes(json.dumps(result, indent=1).encode(), CONFIRMED)
    return result


def finalists(sweep: Sweep) -> list[TrialRecord]:
    """Finished trials, the best by the first objective first.

    Raises:
        ConfigError: there are none.
    """
    finished = [trial for trial in sweep.trials if trial.state == "finished" and trial.values]
    if not finished:
        raise ConfigError(f"{sweep.path}: no finished trial to confirm; go on with --resume {sweep.path}")
    return sorted(finished, key=lambda trial: -trial.values[0] if sweep.up[0] else trial.values[0])


def _stopped(sweep: Sweep) -> list[TrialRecord]:
    """Those that the scheduler stopped, the longest trained and then the best first; none of them can win."""
    found = [trial for trial in sweep.trials if trial.state == "stopped" and trial.values]
    return sorted(found, key=lambda trial: (-trial.epochs, -trial.values[0]))


@dataclass(frozen=True)
class _FreshRuns(SweepDir):
    """The directory of one request for fresh runs; their run directories are those of the sweep.

    Attributes:
        root: where the sweep has its run directories.
    """

    root: str = ""

    @property
    def runs_root(self) -> str:
        return self.root


def _train(
    place: str, sweep: Sweep, space: Space, params: Mapping[str, Any], seeds: Sequence[int]
) -> dict[str, list[str]]:
    """Run directories, or URIs, of the winner and of the recipe as it is, by seed."""
    winner, recipe = ([{**settings, "seed": seed} for seed in seeds] for settings in (params, {}))
    points: dict[str, Point] = {run_key(space, point): point for point in (*winner, *recipe)}  # they may be the same
    name = secrets.token_hex(4)  # a new experiment each time: runs that exist are found by their settings
    uri = child_uri(child_uri(place, FOLDER), name) if is_uri(place) else ""
    inner = _FreshRuns(sweep.path / FOLDER / name, uri, child_uri(place, RUNS) if uri else str(sweep.path / RUNS))
    options = _options(sweep)
    results = run_sweep(inner, space, options, list(points.values()))
    shutil.rmtree(inner.path, ignore_errors=True)
    found = {}
    for result in (results[number] for number in range(len(results))):
        if result.error is not None or not result.metrics:
            line = (str(result.error).strip().splitlines() or [""])[-1]
            raise ConfigError(f"confirm: a run with a fresh seed failed: {line}")
        found[run_key(space, result.config or {})] = str(result.metrics["run_dir"])
    runs = {"winner": winner, "recipe": recipe}
    return {name: [found[run_key(space, point)] for point in of] for name, of in runs.items()}


def _options(sweep: Sweep) -> SweepOptions:
    kept = {name: sweep.options[name] for name in ("concurrent", "retries", "hang", "gpus") if name in sweep.options}
    return read_options({**kept, "objective": sweep.objectives[0]})


def unvaried_space(sweep: Sweep, best: TrialRecord) -> Space:
    """The sweep's recipe and fixed settings, with nothing that varies; of a script, what its best run has besides."""
    fixed = dict(sweep.space["fixed"])
    if not sweep.options:
        own = settings_over_recipe(RunDir(fetch_run(best.run, checkpoints=False)).config())
        # The options of a method that varies are no settings of the recipe's.
        varied = tuple(f"{path}." for path in best.params if path in NAMED_GROUPS)
        fixed = {path: value for path, value in own.items() if path not in best.params and not path.startswith(varied)}
    fixed = {path: value for path, value in fixed.items() if path != "run_root"}
    return Space(sweep.name, "", sweep.space["recipe"], 1, fixed=fixed)


def _value(run: str, attack: str, split: str, objective: Objective, reference: Sequence[float]) -> float:
    """The objective of a run by an evaluation of its best checkpoint."""
    directory = RunDir(fetch_run(run, checkpoints=True))
    config = apply_overrides(directory.config(), {"launch": "local", "launch.workers": "0"})
    plan = make_plan(directory, config, read_spec({"attack": attack, "split": split}), frozenset())
    rows = keep_rows(plan, run_plan(plan), choose_device(plan.config.launch.device))
    push_back(run)
    above: XY = (reference[0], reference[1])
    return counted(objective, rows, above)
