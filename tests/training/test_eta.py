"""EtaEstimator: time left of a run, from the work of its parts and measured times."""

from __future__ import annotations

import pytest

from distcond.training.eta import EtaEstimator


def test_no_estimate_before_the_first_measurement() -> None:
    assert EtaEstimator(epochs=2, steps=10).estimate("train", 0, 0, 0.0) is None


def test_first_sweep_is_timed_by_its_work() -> None:
    pace = EtaEstimator(epochs=4, steps=10, every=1, validation=50.0, test=100.0, step_work=5.0)
    pace.record_steps(5, 5.0)  # a second a step, so 0.2 s per unit of work
    assert pace.estimate("train", 0, 0, 0.0) == (pytest.approx(0.0), pytest.approx(40 + 4 * 10 + 20))
    assert pace.estimate("train", 2, 5, 0.0) == (pytest.approx(1 - 55 / 100), pytest.approx(15 + 2 * 10 + 20))
    assert pace.estimate("validate", 2, 10, 0.5) == (pytest.approx(1 - 45 / 100), pytest.approx(10 + 1.5 * 10 + 20))
    pace.record_sweep("validate", 0.5, 50.0)  # 2 s per unit
    assert pace.estimate("train", 3, 0, 0.0) == (pytest.approx(1 - 310 / 640), pytest.approx(10 + 100 + 200))
    assert pace.estimate("test", 4, 0, 0.75) == (pytest.approx(1 - 50 / 640), pytest.approx(50))


def test_resumed_final_sweep_is_measured() -> None:
    pace = EtaEstimator(epochs=1, steps=10, test=100.0)
    pace.record_sweep("test", 0.25, 5.0)
    assert pace.estimate("test", 1, 0, 0.25) == (pytest.approx(0.25), pytest.approx(15.0))


@pytest.mark.parametrize(
    ("every", "done", "sweeps"), [(1, 0, 5), (2, 0, 3), (2, 4, 1), (0, 4, 1), (0, 5, 0), (5, 2, 1)]
)
def test_number_of_validations_left(every: int, done: int, sweeps: int) -> None:
    pace = EtaEstimator(epochs=5, steps=1, every=every, validation=1.0, step_work=1.0)
    pace.record_steps(1, 1.0)
    found = pace.estimate("train", done, 0, 0.0)
    assert found is not None
    assert found[1] == pytest.approx(5 - done + sweeps)
