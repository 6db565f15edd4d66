"""Classes from the outcomes of a real evaluation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond import evaluate, report
from distcond.atomic_io import read_json, write_json
from distcond.data.prepare import open_source, prepare_data
from distcond.data.splits import budget_rows
from distcond.evaluation.by_class import classes_of
from distcond.reporting.per_class import ClassScores
from distcond.reporting.report_data import read_report_data
from distcond.results.comparison import comparison_groups
from distcond.results.cost import run_dirs_below
from distcond.runs.run_dir import RunDir

WORDS = [
    "eval.test_examples=60",
    "eval.batch_size=25",
    "eval.attack.num_steps=3",
    "launch.workers=1",
    "eval.sentinel=off",
]


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an evaluation of 60 test images in three blocks."""
    path = Path(shutil.copytree(trained, tmp_path_factory.mktemp("runs") / trained.name))
    evaluate.main([str(path), *WORDS])
    return path


def test_classes_add_up_to_the_rows(run: Path) -> None:
    fields = comparison_groups(read_report_data([run], "test").rows)
    (field,) = [field for field in fields if field.attack.startswith("PGD-3 ")]
    found = classes_of(field, run_dirs_below(run))
    assert {known.at.point.lam for known in found} == {0.0, 1.0}
    labels = _labels(run)
    for point in field.points:
        (scores,) = [scores for known, scores in found.items() if known.at == point.at]
        assert sum(score.num_correct for score in scores.sa) == point.sa.num_correct
        assert sum(score.num_correct for score in scores.ra) == point.ra.num_correct
        assert [score.num_examples for score in scores.ra] == np.bincount(labels)[scores.classes].tolist()


def test_what_training_swept_itself_has_classes(run: Path) -> None:
    fields = comparison_groups(read_report_data([run], "test").rows)
    (field,) = [field for field in fields if field.attack.startswith("PGD-2 ")]
    found = classes_of(field, run_dirs_below(run))
    assert {known.at.point.lam for known in found} == {0.0, 1.0}
    assert {sum(score.num_examples for score in scores.ra) for scores in found.values()} == {20}


def test_a_report_with_classes(run: Path, capsys: Any) -> None:
    capsys.readouterr()
    assert report.main([str(run), "classes=true"]) == 0
    text = capsys.readouterr().out
    tables = [part for part in text.split("\n\n") if part.startswith("SA and RA % by class | ")]
    (table,) = [part for part in tables if "PGD-3 " in part]
    assert len(tables) == 2, "and that of the sweep of the training itself"
    assert table.splitlines()[1].split() == ["lam", "0.0", "1.0"]
    assert len(table.splitlines()) == 4 + len(set(_labels(run)))
    for number in (1, 2):
        assert f"figure: {run / f'classes-{number}.png'}" in text
        assert (run / f"classes-{number}.png").exists()


@pytest.mark.parametrize(
    "more", [["eval.attack.random_start=false"], ["eval.batch_size=30"], ["noise=eot", "eot_draws=2"]]
)
def test_outcomes_of_another_setting_are_kept_apart(run: Path, tmp_path: Path, more: list[str]) -> None:
    copy = Path(shutil.copytree(run, tmp_path / run.name))
    before = _all(copy)
    evaluate.main([str(copy), *WORDS, *more])
    after = _all(copy)
    assert len(after) == len(before) + 2
    assert all(after.count(scores) >= before.count(scores) for scores in before)


def test_evaluation_of_fewer_examples_leaves_classes_alone(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / run.name))
    before, files = _all(copy), len(list(copy.rglob("outcomes/*/*.npz")))
    evaluate.main([str(copy), *WORDS, "eval.test_examples=35"])
    # Of the blocks of 25, 25 and 10 the first is shared; the second was cut to 10.
    assert len(list(copy.rglob("outcomes/*/*.npz"))) == files + 4
    fields = [
        field for field in comparison_groups(read_report_data([copy], "test").rows) if field.attack.startswith("PGD-3 ")
    ]
    assert sorted(field.attack.split(", ")[-1].split(" (")[0] for field in fields) == ["n = 35", "n = 60"]
    found = [
        sum(s.num_examples for s in scores.ra)
        for field in fields
        for scores in classes_of(field, run_dirs_below(copy)).values()
    ]
    assert sorted(found) == [35, 35, 60, 60]
    assert all(scores in _all(copy) for scores in before)


@pytest.mark.parametrize(
    ("name", "other"), [("weights", "0" * 16), ("noise_seed", 5), ("eot_draws", 7), ("block_size", 24), ("seed", 9)]
)
def test_outcomes_of_other_things_are_not_taken(run: Path, tmp_path: Path, name: str, other: object) -> None:
    copy = Path(shutil.copytree(run, tmp_path / run.name))
    for file in copy.glob("outcomes/pgd-lam1-*/settings.json"):
        write_json(file, read_json(file) | {name: other})
    # Of each evaluation, that of the training and that of the command, the point at lam 1.
    assert len(_all(copy)) == len(_all(run)) - 2


def _all(run: Path) -> list[ClassScores]:
    fields = comparison_groups(read_report_data([run], "test").rows)
    return [scores for field in fields for scores in classes_of(field, run_dirs_below(run)).values()]


def _labels(run: Path) -> np.ndarray:
    """Of the images that were counted."""
    data = RunDir(run).config().data
    source = open_source(prepare_data(data), "test", "cpu", 1)
    return np.asarray(source.labels[budget_rows(source, 60)])
