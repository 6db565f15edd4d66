"""Rows of blends and rows over lam: separate lines on the same axes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from distcond.reporting.page import write_page
from distcond.reporting.trade_off_plot import draw_trade_off
from distcond.results.comparison import comparison_groups
from distcond.results.lines import dial_label, lines_from_rows
from distcond.results.row import Row
from distcond.results.series import series_of
from distcond.results.tables import as_records, trade_off_table

PGD = {"attack": "pgd", "norm": "Linf", "epsilon": 0.1, "step_size": 0.02, "num_steps": 20, "restarts": 1}


@pytest.fixture
def rows(make_row: Any) -> list[Row]:
    """SA and RA of one run: at two lam, and of a blend of weights at three t."""
    rows = []
    for at in [{"lam": 0.0}, {"lam": 1.0}, *({"lam": 1.0, "blend": "weights", "blend_t": t} for t in (0, 0.5, 1))]:
        t = at.get("blend_t", at["lam"])
        rows.append(make_row(**at, num_correct=90 - int(5 * t), num_examples=100))
        rows.append(make_row(**at, **PGD, num_correct=10 + int(40 * t), num_examples=100))
    return rows


def test_a_blend_is_a_series_of_its_own(rows: list[Row]) -> None:
    positions = {
        series.origin.blend: [point.at.point.position for point in series.points] for series in series_of(rows)
    }
    assert positions == {"": [0.0, 1.0], "weights": [0.0, 0.5, 1.0]}


def test_tables_of_blends_have_a_t_column(rows: list[Row]) -> None:
    switch, blend = trade_off_table(rows).split("\n\nfloat")
    assert "lam  " in switch and "blend of" not in switch
    assert "blend of weights, t from lam 0 to lam 1" in blend and re.search(r"^ +t  ", blend, re.M)
    records = [record for record in as_records(rows) if record["blend"]]
    assert [(record["lam"], record["blend_t"]) for record in records] == [(1.0, 0.0), (1.0, 0.5), (1.0, 1.0)]


def test_blends_and_lam_share_their_axes(rows: list[Row], tmp_path: Path) -> None:
    lines = lines_from_rows(rows)
    assert (dial_label(lines), dial_label(lines[:1]), dial_label(lines[1:])) == ("λ or t", "λ", "t")
    draw_trade_off(lines)
    (group,) = comparison_groups(rows)
    names = {"lam 0", "lam 1", "weights t 0", "weights t 0.5", "weights t 1"}
    assert {str(point) for point in group.points} == names
    pytest.importorskip("plotly")
    page = write_page([group], tmp_path / "page.html").read_text()
    assert json.dumps([0.0, 0.5, 1.0]) in page and '"dial": "\\u03bb or t"' in page
