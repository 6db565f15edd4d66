"""The command `python -m distcond.report`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from distcond import report
from distcond.config.command_line import run_cli
from distcond.errors import ConfigError
from distcond.operating_point import OperatingPoint
from distcond.results.cost import InferenceCost, cost_lines, costs_below
from distcond.results.series import PointKey
from distcond.results.store import write_part
from support.processes import run

GRID = (0.0, 0.2, 1.0)


def points(lams=GRID, width=1.0, flops=8e6, **changes):
    common = {"dense_flops": 8e6, "nonzeros": 100, "density": 1.0, "robust_overfitting_gap": 0.01}
    common |= {"robust_generalization_gap": None} | changes
    return [{"lam": lam, "width": width, "flops": flops, **common} for lam in lams]


@pytest.fixture
def runs(tmp_path: Path, make_sweep) -> Path:
    """Two finished runs, of which the second is cheaper and less accurate."""
    cheap = [{"run_id": "b", "method": "smart", "density": 0.5}, {"num_correct": 8000}]
    for name, rows, flops in (
        ("moved", make_sweep(GRID), 8e6),
        ("b", [row for lam in GRID for row in make_sweep((lam,), **cheap[0])], 4e6),
    ):
        write_part(tmp_path / name, "test-best", rows)
        record = {"parameters": 10, "train_flops": 1e9, "points": points(flops=flops)}
        (tmp_path / name / "finished.json").write_text(json.dumps(record))
    return tmp_path


def output_of(capsys, *words) -> str:
    capsys.readouterr()
    assert report.main([str(word) for word in words]) == 0
    return capsys.readouterr().out


def test_tables_points_and_the_chosen_point(runs, capsys):
    text = output_of(capsys, runs, "sa=0.9", "ra>=20%")
    assert text.count("lam           SA %") == 2
    assert "SA >= 90 % and RA >= 20 %: take smart, lam 0.2: SA" in text
    assert "4e+06 FLOPs per image; holds with more than 99 %" in text
    assert "  of smart alone: " in text
    assert f"figure: {runs / 'curves.png'}" in text
    assert (runs / "curves.png").stat().st_size > 10_000
    assert "no point here; nearest is" in output_of(capsys, runs, "ra=0.9", "by=interval")


def test_page_and_figure_paths_can_be_set(runs, capsys, tmp_path):
    pytest.importorskip("plotly", reason="the page is drawn with plotly")
    (tmp_path / "x").mkdir()  # a missing folder is refused
    text = output_of(capsys, runs / "b", f"png={tmp_path / 'x' / 'a.png'}", f"html={tmp_path / 'x' / 'a.html'}")
    assert f"page: {tmp_path / 'x' / 'a.html'}" in text
    assert {path.name for path in (tmp_path / "x").iterdir()} == {"a.png", "a.html"}
    assert not (runs / "b" / "curves.png").exists()


def test_val_report_shows_live_rows(tmp_path, make_sweep, capsys):
    write_part(tmp_path, "val-epoch-0003", make_sweep(split="val", checkpoint="live"))
    with pytest.raises(ConfigError, match="no test rows here"):
        report.main([str(tmp_path)])
    assert "val | live checkpoint" in output_of(capsys, tmp_path, "split=val")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sa"], "sa: .*sa=VALUE"),
        (["--html", "x"], "'html'.*html"),
        (["referense=0,0"], "'referense'.*reference"),
        (["reference=0"], "reference=0: .*SA,RA"),
        (["reference=0,7"], "reference=7: "),
        (["split=train"], "split.*train.*test, val"),
        (["ra=0.2", "by=luck"], "by.*luck.*estimate, interval"),
        (["classes=perhaps"], "classes=perhaps: .*true"),
        (["nowhere"], "nowhere"),
    ],
)
def test_invalid_options_are_refused(runs, words, message):
    with pytest.raises(ConfigError, match=message):
        report.main([str(runs), *words])


def test_options_without_a_folder_are_refused():
    with pytest.raises(ConfigError, match="no folder"):
        report.main(["sa=0.5"])


def test_help_lists_every_setting() -> None:
    helped = run([sys.executable, "-m", "distcond.report", "--help"])
    assert helped.status == 0
    assert all(
        f"{word}=" in helped.output for word in ("sa", "ra", "by", "reference", "split", "classes", "png", "html")
    )


def test_refusal_is_one_line(runs, capsys):
    with pytest.raises(SystemExit) as end:
        run_cli(lambda: report.main([str(runs), "sb=1"]))
    output_of = capsys.readouterr()
    assert (end.value.code, output_of.out, output_of.err.count("\n")) == (2, "", 1)
    assert output_of.err.startswith("error: ") and "'sb'" in output_of.err


def test_costs_of_moved_runs(runs):
    found = costs_below(runs)
    assert found[PointKey("float-1a2b", OperatingPoint(0.2))] == InferenceCost(8e6, 100)
    assert found[PointKey("b", OperatingPoint(1.0))] == InferenceCost(4e6, 100)
    assert len(found) == 6
    (runs / "b" / "finished.json").unlink()
    assert {at.run_id for at in costs_below(runs)} == {"float-1a2b"}


def test_cost_lines_by_hand(tmp_path):
    assert cost_lines(tmp_path) == ""
    sparse = points((0.0,), density=0.25, flops=2e6) + points((1.0,), density=0.5, flops=4e6)
    sparse += points((1.0,), width=0.5, flops=1e6, density=0.5)
    sparse[1]["robust_generalization_gap"] = 0.0821
    record = {"epochs": 3, "parameters": 73408, "train_flops": 4.50974e11, "points": sparse}
    (tmp_path / "finished.json").write_text(json.dumps(record))
    assert cost_lines(tmp_path).splitlines() == [
        "parameters 73,408 | training 4.51e+11 FLOPs | inference 4e+06 FLOPs per image, density 0.500 "
        "(down to 1e+06 FLOPs per image, density 0.500, width 0.5)",
        "robust overfitting gap, points: +1.0 at lam 0, +1.0 at lam 1",
        "robust generalization gap, points: +8.2 at lam 1",
    ]
    dense = record | {"points": points((0.0, 1.0), robust_overfitting_gap=None)}
    (tmp_path / "finished.json").write_text(json.dumps(dense))
    assert cost_lines(tmp_path) == "parameters 73,408 | training 4.51e+11 FLOPs | inference 8e+06 FLOPs per image"
    (tmp_path / "finished.json").write_text(json.dumps({"epochs": 3}))
    assert cost_lines(tmp_path) == ""
