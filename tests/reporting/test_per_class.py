"""Scores by class."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distcond.operating_point import OperatingPoint
from distcond.reporting.per_class import ClassScores, ClassScoresKey, count_by_class, per_class_png, per_class_tables
from distcond.results.series import PointKey, Score

AT = PointKey("run", OperatingPoint(0.2))
AT_ONE = PointKey("run", OperatingPoint(1.0))


def test_class_counts_and_table_by_hand():
    labels = [0, 0, 0, 2, 2, 5]
    clean, robust = [True, True, False, True, True, False], [True, False, False, True, True, False]
    found = count_by_class(labels, clean, robust)
    assert found == ClassScores(
        [0, 2, 5],
        [Score(2, 3, 1), Score(2, 2, 1), Score(0, 1, 1)],
        [Score(1, 3, 1), Score(2, 2, 1), Score(0, 1, 1)],
    )
    assert "distcond.evaluate" in per_class_tables({})
    text = per_class_tables(
        {
            ClassScoresKey("PGD", AT): found,
            ClassScoresKey("PGD", AT_ONE): count_by_class([0], [True], [False]),
        }
    )
    assert text.splitlines() == [
        "SA and RA % by class | run | PGD",
        "  lam    0.2           1.0     ",
        "class     SA     RA     SA   RA",
        "-----  -----  -----  -----  ---",
        "    0   66.7   33.3  100.0  0.0",
        "    2  100.0  100.0      -    -",
        "    5    0.0    0.0      -    -",
    ]


def test_terminal_shows_ten_worst_classes():
    labels = list(range(50))
    lines = per_class_tables(
        {ClassScoresKey("PGD", AT): count_by_class(labels, [True] * 50, [n < 30 for n in labels])}
    ).splitlines()
    assert [int(line.split()[0]) for line in lines[4:-1]] == list(range(30, 40))
    assert "10 of 50" in lines[-1] and "classes=all" in lines[-1]
    every = per_class_tables({ClassScoresKey("PGD", AT): count_by_class(labels, [True] * 50, [True] * 50)}, every=True)
    assert len(every.splitlines()) == 4 + 50


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.booleans()), min_size=1))
def test_classes_add_up_to_all(outcomes):
    labels, clean, robust = zip(*outcomes, strict=True)
    found = count_by_class(labels, clean, robust)
    assert sum(score.num_correct for score in found.sa) == sum(clean)
    assert sum(score.num_correct for score in found.ra) == sum(robust)
    assert sum(score.num_examples for score in found.ra) == len(outcomes)
    assert found.classes == sorted(set(labels))


def test_class_figure_is_written_for_many_classes(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    labels = [number for number in range(50) for _ in range(4)]
    robust = [number > 24 for number in labels]
    some = count_by_class(labels[:100], robust[:100], robust[:100])
    found = {AT: count_by_class(labels, [True] * 200, robust), AT_ONE: some}
    path = per_class_png(found, "a run", tmp_path / "classes.png")
    assert path is not None and path.stat().st_size > 10_000
    assert per_class_png({}, "a run", tmp_path / "none.png") is None
