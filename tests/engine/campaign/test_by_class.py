"""Classes from the outcomes of a real evaluation."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond import evaluate, report
from distcond.data.described import prepared
from distcond.data.open import open_source
from distcond.engine.campaign.by_class import classes_of, labels_of
from distcond.engine.run_dir import RunDir
from distcond.results.cost import run_dirs_below
from distcond.results.operating import fields_of


@pytest.fixture(scope="module")
def run(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an evaluation of 60 test images in three blocks."""
    path = Path(shutil.copytree(trained, tmp_path_factory.mktemp("runs") / trained.name))
    words = ["eval.test_examples=60", "eval.batch_size=25", "eval.attack.num_steps=3", "launch.workers=1"]
    evaluate.main([str(path), *words])
    return path


def test_classes_add_up_to_the_rows(run: Path) -> None:
    fields = fields_of(report.rows_at([run], "test"))
    (field,) = [field for field in fields if field.attack.startswith("PGD-best-3 ")]
    found = classes_of(field, run_dirs_below(run))
    assert {known.at.lam for known in found} == {0.0, 1.0}
    labels = _labels(run)[:60]
    for point in field.points:
        (scores,) = [scores for known, scores in found.items() if known.at == point.at]
        assert sum(score.num_correct for score in scores.sa) == point.sa.num_correct
        assert sum(score.num_correct for score in scores.ra) == point.ra.num_correct
        assert [score.num_examples for score in scores.ra] == np.bincount(labels)[scores.classes].tolist()


def test_what_training_swept_itself_has_no_classes(run: Path) -> None:
    fields = fields_of(report.rows_at([run], "test"))
    (field,) = [field for field in fields if field.attack.startswith("PGD-2 ")]
    assert classes_of(field, run_dirs_below(run)) == {}


def test_a_report_with_classes(run: Path, capsys: Any) -> None:
    capsys.readouterr()
    assert report.main([str(run), "classes=true"]) == 0
    text = capsys.readouterr().out
    assert text.count("RA by class from ") == 2
    assert f"figure: {run / 'classes.png'}" in text
    assert (run / "classes.png").exists()


def _labels(run: Path) -> np.ndarray:
    data = RunDir(run).config().data
    source = open_source(prepared(data), "test", "cpu", 1)
    ((_, labels),) = source.read([np.arange(len(source))])
    assert np.array_equal(labels_of(run, "test"), labels.numpy())
    return np.asarray(labels.numpy())
