"""Courses over trials whose outcomes are computed: what is decided, not what is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.tuning.asha import Asha, rungs
from distcond.tuning.axis import Axis
from distcond.tuning.course import Course, Schedule
from distcond.tuning.merged import merged
from distcond.tuning.objective import Objective
from distcond.tuning.pbt import Exploit, Rounds, check_live
from distcond.tuning.proposers import Listed, Proposer, Random
from distcond.tuning.space import Space
from distcond.tuning.sweep_dir import SweepDir
from distcond.tuning.trial import Leg, Outcome, Trial

EPOCHS = 9
LR = Axis("optim.lr", "uniform", 0.1, 0.9)
SPACE = Space("s", "?", "float_digits", 9, axes=(LR,), fixed={"epochs": EPOCHS})


def course(folder: Path, schedule: Schedule = None, proposer: Proposer | None = None, count: int = 9) -> Course:
    def placed(config: Config) -> Path:
        if config.optim.lr > 0.95:
            raise ConfigError("optim.lr: too much")
        return folder / "runs" / f"lr-{config.optim.lr}"

    def inherit(trials: dict[int, Trial], exploit: Exploit) -> Trial:
        loser, donor = trials[exploit.loser], trials[exploit.donor]
        past = {"epoch": donor.epochs, "trial": donor.number, "inherited": donor.flops, "flops": loser.flops}
        lineage = (*loser.lineage, {**past, "seconds": loser.seconds})
        return replace(loser, drawn=exploit.drawn, lineage=lineage, run=f"{loser.run}+", epochs=donor.epochs)

    sweep = SweepDir(folder)
    return Course(sweep, SPACE, proposer or Random(SPACE, 0), count, 1, schedule, placed, inherit)


def outcome(drawn: Any, until: int) -> Outcome:
    """Every epoch adds to the objective, more with a larger lr, and costs one FLOP."""
    epochs = until or EPOCHS
    curve = tuple((float(epoch), drawn["optim.lr"] * (1 + epoch / 100)) for epoch in range(1, epochs + 1))
    return Outcome(curve, epochs, float(epochs), 1.0, until == 0)


def carry_out(found: Course, most: int = 1000) -> list[tuple[int, int, int]]:
    """(trial, from, until) of each leg, one at a time."""
    legs = []
    while len(legs) < most and (leg := found.next()) is not None:
        trial = found.trials[leg.number]
        legs.append((leg.number, trial.epochs, leg.until or EPOCHS))
        found.ended(leg, outcome(trial.drawn, leg.until))
    return legs


def test_every_trial_finishes_without_a_schedule(tmp_path: Path) -> None:
    found = course(tmp_path)
    assert carry_out(found) == [(number, 0, EPOCHS) for number in range(9)]
    assert {trial.state for trial in found.sweep.trials().values()} == {"finished"}


def test_asha_promotes_from_checkpoints_within_its_budget(tmp_path: Path) -> None:
    assert rungs(EPOCHS, 1, 3) == (1, 3)
    found = course(tmp_path, Asha(EPOCHS, 1, 3, up=True))
    legs = carry_out(found)
    by_rung = [[leg for leg in legs if leg[1] == begin] for begin in (0, 1, 3)]
    assert [len(of) for of in by_rung] == [9, 3, 1]
    assert all(until == end for of, end in zip(by_rung, (1, 3, EPOCHS), strict=True) for _, _, until in of)
    assert sum(until - begin for _, begin, until in legs) == 9 * 1 + 3 * 2 + 1 * 6
    best = max(found.trials.values(), key=lambda trial: trial.drawn["optim.lr"])
    assert best.state == "finished" and sum(t.state == "finished" for t in found.trials.values()) == 1


def test_asha_minimises_where_less_is_better(tmp_path: Path) -> None:
    found = course(tmp_path, Asha(EPOCHS, 1, 3, up=False))
    carry_out(found)
    finished = [trial for trial in found.trials.values() if trial.state == "finished"]
    assert finished == [min(found.trials.values(), key=lambda trial: trial.drawn["optim.lr"])]


def test_with_few_trials_one_still_ends(tmp_path: Path) -> None:
    legs = carry_out(course(tmp_path, Asha(EPOCHS, 1, 3, up=True), count=2))
    assert [(begin, until) for _, begin, until in legs] == [(0, 1), (0, 1), (1, 3), (3, EPOCHS)]


@pytest.mark.parametrize("interrupted", [1, 5, 10, 12])
def test_interrupted_asha_equals_uninterrupted(tmp_path: Path, interrupted: int) -> None:
    whole = carry_out(course(tmp_path / "a", Asha(EPOCHS, 1, 3, up=True)))
    first = course(tmp_path / "b", Asha(EPOCHS, 1, 3, up=True))
    done = carry_out(first, interrupted)
    lost = first.next()  # begun by a process that is then killed
    second = course(tmp_path / "b", Asha(EPOCHS, 1, 3, up=True))
    assert lost is None or second.trials[lost.number].state == "waiting"
    assert done + carry_out(second) == whole


def test_a_trial_that_fails_is_left_behind(tmp_path: Path) -> None:
    found = course(tmp_path, proposer=Listed([{"optim.lr": lr} for lr in (0.1, 0.96, 0.1, 0.2)]))
    leg = found.next()
    assert leg is not None
    found.ended(leg, Outcome(error="ValueError: no"))
    carry_out(found)
    errors = {trial.number: trial.error for trial in found.trials.values()}
    assert errors == {0: "ValueError: no", 1: "optim.lr: too much", 2: ""}
    assert (found.trials[2].state, found.trials[2].drawn) == ("finished", {"optim.lr": 0.2}), "0.1 was there"


DISCRETE = replace(SPACE, axes=(Axis("optim.lr", "choice", values=(0.1, 0.2, 0.3)),))


def proposer(search: str) -> Proposer:
    if search != "random":
        pytest.importorskip("optuna", reason="Optuna comes with the extra tune")
        from distcond.tuning.optuna_search import Optuna

        return Optuna(DISCRETE, search, [Objective("sa@0", "sa", 0.0, True)], 0)
    return Random(DISCRETE, 0)


@pytest.mark.parametrize("search", ["random", "tpe", "nsga2"])
@pytest.mark.parametrize("schedule", [None, "rounds", "asha"])
def test_small_space_gives_each_point_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, search: str, schedule: str | None
) -> None:
    made = {"rounds": rounds(), "asha": Asha(EPOCHS, 1, 3, up=True)}.get(schedule or "")
    found = course(tmp_path, made, proposer(search), count=9)
    with caplog.at_level("INFO"):
        legs = carry_out(found)
    assert [record.message for record in caplog.records] == ["s: nothing new is left; 3 trials in place of 9"]
    assert sorted(leg[0] for leg in legs if leg[1] == 0) == [0, 1, 2] == list(found.trials)
    assert not [trial.error for trial in found.trials.values() if trial.error]
    if schedule is None:
        assert sorted(trial.drawn["optim.lr"] for trial in found.trials.values()) == [0.1, 0.2, 0.3]
    assert "finished" in {trial.state for trial in found.trials.values()}


@pytest.mark.parametrize("search", ["random", "tpe"])
def test_interrupted_search_draws_the_same_points(tmp_path: Path, search: str) -> None:
    whole = course(tmp_path / "a", None, proposer(search), count=3)
    carry_out(whole)
    carry_out(course(tmp_path / "b", None, proposer(search), count=3), 1)
    second = course(tmp_path / "b", None, proposer(search), count=3)
    carry_out(second)
    assert [trial.drawn for trial in second.trials.values()] == [trial.drawn for trial in whole.trials.values()]


def test_proposal_that_raises_is_a_failed_trial(tmp_path: Path) -> None:
    def space(source: Any) -> dict[str, Any]:
        lr = LR.draw(source)
        if lr < 0.5:
            raise ValueError("too low")
        return {"optim.lr": lr}

    found = course(tmp_path, proposer=Random(SPACE, 0, space), count=6)
    carry_out(found)
    states = {(trial.state, trial.error) for trial in found.trials.values()}
    assert states == {("finished", ""), ("failed", "the space's function raised ValueError: too low")}


def test_trial_whose_process_dies_is_retried_once(tmp_path: Path) -> None:
    found = course(tmp_path, count=1)
    for _ in range(2):
        leg = found.next()
        assert leg == Leg(0, 0)
        found.died(leg, "it died")
    assert found.next() is None
    assert (found.trials[0].state, found.trials[0].error) == ("failed", "it died (tried 2 times)")


def test_workers_that_did_not_start_are_retried(tmp_path: Path) -> None:
    found = course(tmp_path, count=1)
    leg = found.next()
    assert leg is not None
    found.ended(leg, Outcome(error="Ray Train could not start the workers", again=True))
    assert found.trials[0].state == "waiting"
    assert carry_out(found) == [(0, 0, EPOCHS)] and found.trials[0].state == "finished"


def test_leg_without_objective_fails(tmp_path: Path) -> None:
    found = course(tmp_path, count=1)
    leg = found.next()
    assert leg is not None
    found.ended(leg, Outcome(epochs=9, finished=True))
    assert found.trials[0].error == "no objective: its run validated nothing; see eval.every"


def rounds() -> Rounds:
    return Rounds(SPACE, EPOCHS, 3, 0.25, up=True, seed=0)


def test_pbt_replaces_worst_by_mutated_best(tmp_path: Path) -> None:
    found = course(tmp_path, rounds(), count=4)
    legs = carry_out(found)
    assert [(begin, until) for _, begin, until in legs] == [(0, 3)] * 4 + [(3, 6)] * 4 + [(6, EPOCHS)] * 4
    exploited = [(trial, fork) for trial in found.trials.values() for fork in trial.lineage]
    assert len(exploited) == 2, "one in four, after each of two rounds"
    for trial, fork in exploited:
        assert fork["trial"] != trial.number
    first = min(exploited, key=lambda pair: pair[1]["epoch"])
    assert first[1]["epoch"] == 3
    # 3 epochs of its own, then 3 after the checkpoint of another whose 3 it did not pay.
    assert sum(trial.flops for trial in found.trials.values()) == 4 * EPOCHS


@pytest.mark.parametrize("interrupted", [2, 4, 6, 9])
def test_interrupted_population_equals_uninterrupted(tmp_path: Path, interrupted: int) -> None:
    whole = course(tmp_path / "a", rounds(), count=4)
    carry_out(whole)
    first = course(tmp_path / "b", rounds(), count=4)
    carry_out(first, interrupted)
    first.next()
    second = course(tmp_path / "b", rounds(), count=4)
    carry_out(second)
    drawn = [[trial.drawn for trial in found.trials.values()] for found in (whole, second)]
    assert drawn[0] == drawn[1]


def test_round_cut_between_exploits_is_completed(tmp_path: Path) -> None:
    found = course(tmp_path, Rounds(SPACE, EPOCHS, 3, 0.5, up=True, seed=0), count=4)
    carry_out(found, 4)
    trials = dict(found.trials)
    schedule = Rounds(SPACE, EPOCHS, 3, 0.5, up=True, seed=0)
    planned = schedule.between(trials)
    assert planned is not None and len(planned.exploits) == 2 and len(planned.others) == 2
    found.sweep.write(replace(found.inherit(trials, planned.exploits[0]), state="waiting", until=planned.until))
    again = schedule.between(found.sweep.trials())
    assert again is not None
    assert again.exploits == planned.exploits[1:] and again.others == planned.others


def test_settings_of_the_start_cannot_be_mutated() -> None:
    alpha = Space("s", "?", "float_digits", 4, axes=(Axis("method.alpha", "uniform", 0.1, 0.9),))
    with pytest.raises(ConfigError, match=r"method.alpha acts at the start of a run only"):
        check_live(alpha)
    check_live(SPACE)


def test_the_past_of_an_exploited_trial_stays() -> None:
    fork = {"epoch": 3, "flops": 3.0, "seconds": 5.0, "inherited": 4.0}
    trial = Trial(0, {}, curve=((1.0, 0.1), (3.0, 0.3)), lineage=(fork,))
    after = merged(trial, Outcome(((4.0, 0.8),), 4, 5.0, 2.0))
    assert after.curve == ((1.0, 0.1), (3.0, 0.3), (4.0, 0.8))
    assert (after.flops, after.seconds, after.epochs) == (4.0, 7.0, 4)
