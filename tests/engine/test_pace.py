"""How long a run still takes, told from what its parts cost."""

from __future__ import annotations

import pytest

from distcond.engine.pace import Pace


def test_nothing_is_told_before_anything_was_measured() -> None:
    assert Pace(epochs=2, steps=10).left("train", 0, 0, 0.0) is None


def test_first_sweep_is_timed_by_its_work() -> None:
    pace = Pace(epochs=4, steps=10, every=1, validation=50.0, test=100.0, step_work=5.0)
    pace.trained(5, 5.0)  # a second a step, so 0.2 s per unit of work
    assert pace.left("train", 0, 0, 0.0) == (pytest.approx(0.0), pytest.approx(40 + 4 * 10 + 20))
    assert pace.left("train", 2, 5, 0.0) == (pytest.approx(1 - 55 / 100), pytest.approx(15 + 2 * 10 + 20))
    assert pace.left("validate", 2, 10, 0.5) == (pytest.approx(1 - 45 / 100), pytest.approx(10 + 1.5 * 10 + 20))
    pace.swept("validate", 0.5, 50.0)  # 2 s per unit
    assert pace.left("train", 3, 0, 0.0) == (pytest.approx(1 - 310 / 640), pytest.approx(10 + 100 + 200))
    assert pace.left("test", 4, 0, 0.75) == (pytest.approx(1 - 50 / 640), pytest.approx(50))


def test_resumed_final_sweep_is_measured() -> None:
    pace = Pace(epochs=1, steps=10, test=100.0)
    pace.swept("test", 0.25, 5.0)
    assert pace.left("test", 1, 0, 0.25) == (pytest.approx(0.25), pytest.approx(15.0))


@pytest.mark.parametrize(
    ("every", "done", "sweeps"), [(1, 0, 5), (2, 0, 3), (2, 4, 1), (0, 4, 1), (0, 5, 0), (5, 2, 1)]
)
def test_validations_to_come(every: int, done: int, sweeps: int) -> None:
    pace = Pace(epochs=5, steps=1, every=every, validation=1.0, step_work=1.0)
    pace.trained(1, 1.0)
    found = pace.left("train", done, 0, 0.0)
    assert found is not None
    assert found[1] == pytest.approx(5 - done + sweeps)
