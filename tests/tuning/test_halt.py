"""A course that is asked to stop: nothing more begins, and what was cut off waits to be gone on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from distcond.tuning.course import Course
from distcond.tuning.proposers import Listed
from distcond.tuning.space import Space
from distcond.tuning.sweep_dir import SweepDir
from distcond.tuning.trial import Leg, Outcome

SPACE = Space("s", "?", "float_digits", 9)


def course(folder: Path) -> Course:
    points = [{"optim.lr": lr} for lr in (0.1, 0.2)]
    return Course(SweepDir(folder), SPACE, Listed(points), 2, 0, None, lambda c: folder / str(c.optim.lr), pytest.fail)


def test_halted_leg_waits_and_is_no_failure(tmp_path: Path) -> None:
    found = course(tmp_path)
    leg = found.next()
    assert leg == Leg(0, 0)
    found.halt()
    assert found.next() is None and found.running
    found.ended(leg, Outcome())  # before its first validation
    assert (found.trials[0].state, found.trials[0].tries, found.running) == ("waiting", 0, False)
    assert found.next() is None
    assert course(tmp_path).next() == Leg(0, 0)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Outcome(((1.0, 0.5),), 1, finished=True), "finished"),
        (Outcome(error="ValueError: no"), "failed"),
        (Outcome(((1.0, 0.5),), 1), "waiting"),
    ],
)
def test_leg_that_ends_during_halt_has_ended(tmp_path: Path, outcome: Outcome, state: str) -> None:
    found = course(tmp_path)
    leg = found.next()
    assert leg is not None
    found.halt()
    found.ended(leg, outcome)
    assert found.trials[0].state == state
    assert [point[1] for point in found.trials[0].curve] == [point[1] for point in outcome.curve]


def test_leg_at_its_end_is_stopped_by_schedule(tmp_path: Path) -> None:
    found = course(tmp_path)
    assert found.next() is not None
    found.halt()
    found.ended(Leg(0, 1), Outcome(((1.0, 0.5),), 1))
    assert found.trials[0].state == "stopped"
