"""Look again at what a sweep has found: its trials under a strong attack, the winner with fresh seeds.

A winner was chosen on one seed, one split and a cheap attack, as the best of many: it looks better than it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from distcond.atomic_io import write_json
from distcond.config.overrides import apply_overrides
from distcond.distributed.world import choose_device
from distcond.errors import ConfigError
from distcond.evaluation.make_plan import make_plan
from distcond.evaluation.rows import keep_rows
from distcond.evaluation.spec import read_spec
from distcond.launch.evaluate_driver import run_plan
from distcond.runs.run_dir import RunDir
from distcond.tuning.objective import read_objective
from distcond.tuning.proposers import Listed
from distcond.tuning.ray_backend.sweep import base, carry, placed
from distcond.tuning.space import Space
from distcond.tuning.sweep_dir import CONFIRMED, SweepDir
from distcond.tuning.trial import Trial
from distcond.tuning.verdict import agreement, check_countable, counted, judge, same_order
from distcond.tuning.words import Words

#: Added to the seed of the sweep's runs: nobody has looked at these.
FRESH = 1000


def confirm(sweep: SweepDir, seeds: int, attack: str, trials: int) -> dict[str, Any]:
    """Train the winner and the recipe with `seeds` fresh seeds each, count all under `attack`, write `confirm.json`.

    So are `trials` trials of the sweep, at the checkpoints that they were compared by: the best first, and those that
    were stopped only after all others. What is there already is not done again.

    Raises:
        ConfigError: no finished trial, a winner that no single run repeats, or a first objective that is no accuracy.
    """
    space, words = sweep.asked()
    objective = read_objective(words.objective[0], base(space))
    check_countable(objective)
    ranked = finalists(sweep, sweep.read()["up"][0])
    best, reference = ranked[0], (words.reference[0], words.reference[1])
    if best.lineage:
        raise ConfigError(
            f"{sweep.path}: trial {best.number} changed its settings on its way; no run with fresh seeds does"
        )
    looked_at = [*ranked, *_stopped(sweep)][:trials]
    strong = [counted(objective, _rows(sweep.path / t.run, attack, "val"), reference) for t in looked_at]
    cheap = [trial.values[0] for trial in looked_at]
    proxy = agreement([(trial.epochs, a, b) for trial, a, b in zip(looked_at, cheap, strong, strict=True)])
    own = space.config({}).seed
    fresh = [own + FRESH + number for number in range(seeds)]
    runs = _trained(sweep, space, words, best.drawn, fresh)
    values = {
        name: [counted(objective, _rows(run, attack, "test"), reference) for run in of] for name, of in runs.items()
    }
    found = judge(values["winner"], values["recipe"], objective.name)
    told = {
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
    write_json(sweep.path / CONFIRMED, told)
    return told


def finalists(sweep: SweepDir, up: bool) -> list[Trial]:
    """Finished trials, the best by the first objective first.

    Raises:
        ConfigError: there are none.
    """
    finished = [trial for trial in sweep.trials().values() if trial.state == "finished"]
    if not finished:
        raise ConfigError(f"{sweep.path}: no finished trial to confirm; go on with --resume {sweep.path}")
    return sorted(finished, key=lambda trial: -trial.values[0] if up else trial.values[0])


def _stopped(sweep: SweepDir) -> list[Trial]:
    """Those that the schedule ended, the longest trained and then the best first; none of them can win."""
    found = [trial for trial in sweep.trials().values() if trial.state == "stopped"]
    return sorted(found, key=lambda trial: (-trial.epochs, -trial.values[0]))


def _trained(
    sweep: SweepDir, space: Space, words: Words, drawn: Mapping[str, Any], seeds: list[int]
) -> dict[str, list[Path]]:
    """Run directories of the winner and of the recipe as it is, by seed: a sweep of their own, within the sweep's."""
    inner = SweepDir(sweep.path / "confirm")
    points = [{**settings, "seed": seed} for settings in (drawn, {}) for seed in seeds]
    paths = [placed(space.config({**point, **inner.fixed()})).relative_to(inner.path) for point in points]
    before = inner.trials()
    # Asked before, with other seeds or of another winner: a trial is known by its run, not by its number. So is a
    # winner that is the recipe.
    known = {trial.run for trial in before.values()}
    fresh = {str(path): point for path, point in zip(paths, points, strict=True) if str(path) not in known}
    listed = [*(dict(before[number].drawn) for number in sorted(before)), *fresh.values()]
    plain = replace(words, search="random", scheduler="none", trials=len(listed), objective=words.objective[:1])
    for trial in before.values():
        if trial.state == "failed" and trial.run:  # asked again, it may go well
            inner.write(replace(trial, state="waiting", error="", tries=0))
    course = carry(inner, replace(space, axes=(), function=""), plain, Listed(listed))
    found = {trial.run: trial for trial in course.trials.values()}
    wanted = [found[str(path)] for path in paths]
    failed = [trial for trial in wanted if trial.state != "finished"]
    if failed:
        raise ConfigError(f"confirm: {failed[0].error}")
    runs = [inner.path / trial.run for trial in wanted]
    return {"winner": runs[: len(seeds)], "recipe": runs[len(seeds) :]}


def _rows(run_path: Path, attack: str, split: str) -> list[Any]:
    run = RunDir(run_path)
    config = apply_overrides(run.config(), {"launch": "local", "launch.workers": "0"})
    plan = make_plan(run, config, read_spec({"attack": attack, "split": split}), frozenset())
    return keep_rows(plan, run_plan(plan), choose_device(plan.config.launch.device))
