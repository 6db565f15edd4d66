"""Runs over which one setting was swept form one line; other runs keep lines of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distcond import report
from distcond.reporting.trade_off_plot import draw_trade_off
from distcond.results.comparison import comparison_groups
from distcond.results.cost import run_dirs_below
from distcond.results.lines import line_names, lines_from_rows
from distcond.results.row import Row
from distcond.results.store import write_part
from distcond.results.swept import SweptSetting, swept_settings, swept_settings_of

PGD = {"attack": "pgd", "norm": "Linf", "epsilon": 0.1, "step_size": 0.02, "num_steps": 20, "restarts": 1}
TRADES = {"method.name": "trades", "sampler.name": "fixed", "sampler.lam": 1.0, "seed": 0, "run_root": "a"}
#: Settings of runs: TRADES at three beta, PGD-AT at two lam, another seed, and another learning rate.
RUNS: dict[str, dict[str, Any]] = {
    "t6": {**TRADES, "method.beta": 6.0},
    "t1": {**TRADES, "method.beta": 1.0, "run_root": "b"},
    "t3": {**TRADES, "method.beta": 3.0},
    "other": {**TRADES, "method.beta": 3.0, "seed": 1},
    "p0": {"method.name": "pgd_at", "sampler.name": "fixed", "sampler.lam": 0.0, "seed": 0},
    "p1": {"method.name": "pgd_at", "sampler.name": "fixed", "sampler.lam": 1.0, "seed": 0},
}


@pytest.fixture
def rows(make_row: Any) -> list[Row]:
    """SA and RA of every run at its single point."""
    rows = []
    for number, (run_id, settings) in enumerate(RUNS.items()):
        at = {
            "run_id": run_id,
            "method": settings["method.name"],
            "lam": settings["sampler.lam"],
            "seed": settings["seed"],
        }
        rows.append(make_row(**at, num_correct=90 - number, num_examples=100))
        rows.append(make_row(**at, **PGD, num_correct=40 + number, num_examples=100))
    return rows


def values(swept: dict[str, SweptSetting]) -> dict[str, tuple[str, float]]:
    return {run_id: setting[:2] for run_id, setting in swept.items()}


def test_runs_that_differ_in_one_number_are_swept() -> None:
    beta, lam = "method.beta", "sampler.lam"
    expected = {"t6": (beta, 6.0), "t1": (beta, 1.0), "t3": (beta, 3.0), "p0": (lam, 0.0), "p1": (lam, 1.0)}
    assert values(swept_settings(RUNS)) == expected


def test_runs_with_two_differences_are_not_swept() -> None:
    two = {"a": {**TRADES, "method.beta": 1.0}, "b": {**TRADES, "method.beta": 3.0, "optim.lr": 0.1}}
    assert swept_settings(two) == {}
    text = {"a": {**TRADES, "method.kind": "x"}, "b": {**TRADES, "method.kind": "y"}}
    assert swept_settings(text) == {}


@pytest.mark.parametrize("setting", ["init_from", "data.extra", "data.root"])
def test_runs_with_other_content_are_not_swept(setting: str) -> None:
    runs = [{**TRADES, "method.beta": beta, setting: path} for beta, path in ((1.0, ""), (6.0, "there"))]
    assert swept_settings(dict(zip("ab", runs, strict=True))) == {}
    same_path = [{**run, setting: "there"} for run in runs]
    assert values(swept_settings(dict(zip("ab", same_path, strict=True)))) == {
        "a": ("method.beta", 1.0),
        "b": ("method.beta", 6.0),
    }


def test_copies_of_one_init_from_are_equal(make_row: Any, tmp_path: Path) -> None:
    digests = {"a": "one", "b": "one", "c": "other"}
    for number, (name, digest) in enumerate(digests.items()):
        settings = {**TRADES, "method.beta": 1.0 + number, "init_from": f"at/{name}"}
        write_part(tmp_path / name, "test-best", [make_row(run_id=name)])
        (tmp_path / name / "config.json").write_text(json.dumps({"settings": settings}))
        (tmp_path / name / "init_from.json").write_text(json.dumps({"digest": digest}))
    assert sorted(swept_settings_of(run_dirs_below(tmp_path))) == ["a", "b"]


def test_swept_runs_are_one_line_in_order(rows: list[Row]) -> None:
    lines = lines_from_rows(rows, swept_settings(RUNS))
    assert [[part.series.origin.run_id for part in line.by_run] for line in lines] == [
        ["other"],
        ["p0", "p1"],
        ["t1", "t3", "t6"],
    ]
    assert line_names(lines)[1:] == ["pgd_at, seed 0, over sampler.lam", "trades, seed 0, over method.beta"]
    assert len(lines_from_rows(rows)) == len(RUNS)


def test_points_of_a_sweep_keep_their_runs(rows: list[Row]) -> None:
    (group,) = comparison_groups(rows, {}, swept_settings(RUNS))
    named = {point.at.run_id: point.name for point in group.points}
    assert named["t3"] == "trades, seed 0, method.beta 3" and named["p0"] == "pgd_at, seed 0, sampler.lam 0"
    assert [len(points) for points in group.curves.values()] == [1, 2, 3]


def test_runs_with_several_points_are_not_joined(make_row: Any) -> None:
    settings = {name: {"method.name": "float", "method.alpha": alpha} for name, alpha in (("a", 0.1), ("b", 0.2))}
    points = [(run_id, lam) for run_id in settings for lam in (0.0, 1.0)]
    both = [make_row(run_id=run_id, lam=lam) for run_id, lam in points]
    both += [make_row(run_id=run_id, lam=lam, **PGD) for run_id, lam in points]
    assert len(swept_settings(settings)) == 2 and len(lines_from_rows(both, swept_settings(settings))) == 2


def test_the_figure_has_one_entry_per_sweep(rows: list[Row]) -> None:
    figure = draw_trade_off(lines_from_rows(rows, swept_settings(RUNS)))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][1:] == [
        "pgd_at, seed 0, over sampler.lam", "trades, seed 0, over method.beta",
    ]  # fmt: skip
    labels = {text.get_text() for text in figure.axes[0].texts}
    assert {"3", "6"} <= labels, "points are labelled with the swept value"


def test_report_draws_a_line_through_a_sweep(
    rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for run_id, settings in RUNS.items():
        write_part(tmp_path / run_id, "test-best", [row for row in rows if row.run_id == run_id])
        (tmp_path / run_id / "config.json").write_text(json.dumps({"settings": settings}))
    (tmp_path / "other" / "config.json").write_text("damaged")
    page = tmp_path / "page.html"
    pytest.importorskip("plotly")
    assert report.main([str(tmp_path), f"html={page}"]) == 0
    output = capsys.readouterr().out
    assert "of trades, seed 0, over method.beta alone: " in output and "trades, seed 0, method.beta 6" in output
    assert "trades, seed 0, over method.beta" in page.read_text()
