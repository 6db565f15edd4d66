"""A population of real runs, in this process: what an exploit takes over at the moment at which it happens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.config.overrides import to_settings
from distcond.distributed.world import World
from distcond.results import history
from distcond.runs.attempts import set_epoch_limit
from distcond.runs.checkpoint import load_rank_state, load_shared
from distcond.runs.run_dir import RunDir
from distcond.training.fit import fit
from distcond.tuning.axis import Axis
from distcond.tuning.course import Course
from distcond.tuning.inherit import inherited
from distcond.tuning.objective import read_objective
from distcond.tuning.pbt import Exploit
from distcond.tuning.proposers import Random
from distcond.tuning.ray_backend.leg import Order
from distcond.tuning.ray_backend.sweep import base, placed, scheduled, settle
from distcond.tuning.space import Space
from distcond.tuning.sweep_dir import SweepDir
from distcond.tuning.trial import Trial
from distcond.tuning.words import words_of

AXES = (Axis("optim.lr", "loguniform", 0.01, 0.3), Axis("optim.weight_decay", "loguniform", 1e-5, 1e-2))
TINY = {
    "epochs": 3, "train_examples": 64, "batch_size": 32, "model.widths": "4,8", "attack.num_steps": 1,
    "optim.schedule": "constant", "eval.every": 1, "eval.lam_grid": "0,1", "eval.val_examples": 32,
    "eval.val_steps": 1, "eval.test_examples": 16, "eval.attack.num_steps": 1, "eval.train_examples": 0,
    "eval.sentinel": "off", "data.loader": "memory",
}  # fmt: skip


@pytest.fixture
def population(tmp_path: Path) -> Callable[[Callable[..., None]], Course]:
    """`population(seen)`: two trials with an exploit after each epoch; `seen` is told of it right when it is done."""

    def carried_out(seen: Callable[..., None]) -> Course:
        space = Space("s", "?", "float_digits", 2, axes=AXES, fixed={**TINY, "data.cache_dir": str(tmp_path / "cache")})
        words, sweep = words_of({"scheduler": "pbt", "quantile": 0.5}), SweepDir(tmp_path / "sweep")
        config = base(space)
        objective = read_objective("hypervolume", config)

        def inherit(trials: dict[int, Trial], exploit: Exploit) -> Trial:
            heir = inherited(trials, exploit, settle(space.config({**exploit.drawn, **sweep.fixed()})), sweep.path)
            seen(sweep.path / trials[exploit.donor].run, sweep.path / heir.run, trials[exploit.donor].epochs)
            return heir

        schedule = scheduled(space, words, config, objective)
        course = Course(sweep, space, Random(space, 0), 2, 0, schedule, placed, inherit)
        while (leg := course.next()) is not None:
            told, run = course.config(leg.number), RunDir(sweep.path / course.trials[leg.number].run)
            with run.begin(told) as attempt:
                set_epoch_limit(run.path, leg.until)
                fit(told, World(), run.path, attempt)
            order = Order(to_settings(told), str(run.path), leg.until, [list(objective)], [0.0, 0.0], 0.0)
            course.ended(leg, order.told(run))
        return course

    return carried_out


def test_exploit_copies_weights_and_keeps_own_settings(population: Any) -> None:
    exploits = []

    def seen(donor: Path, heir: Path, epoch: int) -> None:
        theirs, ours = (load_shared(run / "checkpoints" / f"epoch-{epoch:04d}") for run in (donor, heir))
        assert theirs["model"].keys() == ours["model"].keys()
        assert all(torch.equal(tensor, ours["model"][name]) for name, tensor in theirs["model"].items())
        statistics = [
            load_rank_state(run / "checkpoints" / f"epoch-{epoch:04d}", 0)["statistics"] for run in (donor, heir)
        ]
        assert all(torch.equal(tensor, statistics[1][name]) for name, tensor in statistics[0].items())
        decays = [state["optimiser"]["param_groups"][0]["weight_decay"] for state in (theirs, ours)]
        assert decays[0] != decays[1]
        exploits.append((heir, epoch, decays[1]))

    course = population(seen)
    assert [epoch for _, epoch, _ in exploits] == [1, 2]
    assert {trial.state for trial in course.trials.values()} == {"finished"}
    for heir, epoch, decay in exploits:
        config, records = RunDir(heir).config(), history.read(heir)
        assert config.optim.weight_decay == decay
        assert records[0]["epoch"] == epoch + 1
        assert {record["lr"] for record in records} == {config.optim.lr}, "the mutated rate is the one it trains with"
    for trial in course.trials.values():
        assert [point[0] for point in trial.curve] == [1, 2, 3]
        whole = RunDir(course.sweep.path / trial.run).config()
        assert (whole.optim.lr, whole.optim.weight_decay) == (
            trial.drawn["optim.lr"],
            trial.drawn["optim.weight_decay"],
        )
