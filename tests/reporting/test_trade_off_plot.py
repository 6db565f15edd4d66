from __future__ import annotations

import itertools
import struct
import subprocess
import sys

import pytest

from distcond.reporting.label_layout import Box, place_labels
from distcond.results.history import append
from distcond.results.lines import line_names, lines_from_rows, shared_title
from support.processes import LIMIT

GRID = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def png_size(path) -> tuple[int, int]:
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def test_a_png_of_one_run(tmp_path, make_sweep):
    image = pytest.importorskip("matplotlib.image", reason="needs matplotlib")
    from distcond.reporting.trade_off_plot import trade_off_png

    path = tmp_path / "results" / "curve.png"
    assert trade_off_png(make_sweep(GRID), path) == path
    assert png_size(path) == (1840, 832)
    pixels = image.imread(path)
    assert 0.02 < (pixels[..., :3].min(-1) < 0.9).mean() < 0.3
    assert [p.name for p in path.parent.iterdir()] == ["curve.png"]
    assert trade_off_png([], path) is None


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("n", [200, 10000])
def test_labels_cover_neither_each_other_nor_markers(make_sweep, runs, n):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from distcond.reporting.trade_off_plot import draw_trade_off

    lines = lines_from_rows([row for i in range(runs) for row in make_sweep(GRID, n=n - i, run_id=f"run-{i}")])
    figure = draw_trade_off(lines)
    axes = figure.axes[0]
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    points = [
        axes.transData.transform((100 * ra.accuracy, 100 * sa.accuracy)) for line in lines for _, sa, ra in line.pairs()
    ]
    assert not any(box.contains(*point) for box in boxes for point in points)
    found = [text.get_text() for text in axes.texts]
    assert found.count("0") == found.count("1") == runs
    assert runs > 1 or sorted(map(float, found)) == list(GRID)


def test_chosen_points_have_a_ring(make_sweep):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from distcond.reporting.trade_off_plot import draw_trade_off

    lines = lines_from_rows(make_sweep(GRID))
    rings = [c for c in draw_trade_off(lines, [(0.9, 0.25)]).axes[0].collections if c.get_label() == "chosen"]
    assert [list(at) for at in rings[0].get_offsets()] == [[25.0, 90.0]]
    assert not [c for c in draw_trade_off(lines).axes[0].collections if c.get_label() == "chosen"]


def test_figure_size_follows_panels_and_runs(tmp_path, make_row, make_sweep):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from distcond.reporting.trade_off_plot import trade_off_png

    trade_off_png([make_row(lam=lam) for lam in GRID], tmp_path / "sa.png")
    assert png_size(tmp_path / "sa.png") == (1200, 832)
    rows = [row for seed in range(9) for row in make_sweep(GRID, run_id=f"r{seed}", seed=seed)]
    trade_off_png(rows, tmp_path / "many.png")
    assert png_size(tmp_path / "many.png")[1] > 900


def test_lines_are_named_by_what_differs(make_sweep):
    lines = lines_from_rows(make_sweep(width=0.5) + make_sweep(width=1.0))
    assert line_names(lines) == ["width 1", "width 0.5"]
    title, subtitle = shared_title(lines)
    assert title == "float · resnet34 · cifar10"
    pgd = "PGD-20 Linf eps=8/255 step=2/255 restarts=1 float32"
    assert subtitle == f"{pgd} · no noise · test split · best checkpoint · epoch 29 · n = 10000"
    lines = lines_from_rows(make_sweep(run_id="a") + make_sweep(run_id="b", method="oat", n=50))
    assert line_names(lines) == ["float", "oat"]
    assert shared_title(lines)[0] == "resnet34 · cifar10"
    assert "n =" not in shared_title(lines)[1]
    assert line_names(lines_from_rows(make_sweep(run_id="a") + make_sweep(run_id="b"))) == ["a", "b"]
    # "no noise" is part of a name only if nothing else differs.
    noisy = make_sweep(run_id="a", noise_mode="fixed")
    assert line_names(lines_from_rows(noisy + make_sweep(run_id="b", method="oat"))) == ["float", "oat"]
    assert line_names(lines_from_rows(noisy + make_sweep(run_id="a"))) == ["noise fixed", "no noise"]


def test_test_rows_hide_val_and_live_rows(make_sweep):
    live = make_sweep(split="val", checkpoint="live")
    assert len(lines_from_rows(live)) == 1
    saved = make_sweep() + make_sweep(split="val") + make_sweep(checkpoint="last", epoch=39)
    shown = lines_from_rows(live + make_sweep(checkpoint="live") + saved)
    assert sorted((line.series.origin.split, line.series.origin.checkpoint) for line in shown) == [
        ("test", "best"),
        ("test", "last"),
    ]


def test_last_checkpoint_equal_to_best_is_drawn_once(make_sweep):
    (line,) = lines_from_rows(make_sweep() + make_sweep(checkpoint="last"))
    assert line.series.origin.checkpoint == "best"


def test_labels_without_space_are_left_out():
    bounds = Box(0, 0, 60, 40)
    points = [(30.0, 20.0)] * 12
    boxes = [box for box in place_labels(points, [(14.0, 8.0)] * 12, [], bounds) if box]
    assert 0 < len(boxes) < 12
    assert all(box.within(bounds) and not box.contains(points[0]) for box in boxes)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_labels_keep_clear_of_other_points():
    bounds, size, point = Box(0, 0, 400, 400), (20.0, 10.0), (200.0, 200.0)
    (alone,) = place_labels([point], [size], [], bounds)
    assert alone is not None
    other = ((alone.left + alone.right) / 2, (alone.bottom + alone.top) / 2)
    boxes = place_labels([point, other], [size, size], [], bounds)
    assert all(box and not box.contains(point) and not box.contains(other) for box in boxes)


def test_labels_keep_clear_of_lines():
    bounds, size = Box(0, 0, 400, 400), (20.0, 10.0)
    point, line = (200.0, 200.0), [(200.0, 200.0), (300.0, 300.0)]
    (free,) = place_labels([point], [size], [], bounds)
    assert free is not None
    assert free.bottom > point[1]
    (beside,) = place_labels([point], [size], [line], bounds)
    assert beside is not None
    assert not any(beside.contains((200 + i, 200 + i)) for i in range(100))
    (sparing,) = place_labels([point], [size], [], bounds, faint=[line])
    assert sparing is not None
    assert free.contains((208.0, 208.0))
    assert not any(sparing.contains((200 + i, 200 + i)) for i in range(100))


def test_a_history_figure(tmp_path):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from distcond.reporting.history_plot import history_png

    assert history_png(tmp_path) is None
    append(tmp_path, {"epoch": 0, "train_loss": 2.3})
    assert png_size(history_png(tmp_path, tmp_path / "first.png")) == (1200, 832)
    val = [{"lam": 0.0, "sa": 0.9, "ra": 0.1}, {"lam": 1.0, "sa": 0.8, "ra": None}]
    append(tmp_path, {"epoch": 1, "train_loss": None, "lr": 0.1, "seconds": 30.0, "images_per_second": 9e3, "val": val})
    path = history_png(tmp_path)
    assert path == tmp_path / "results" / "history.png"
    assert png_size(path) == (1840, 832)


def test_a_missing_matplotlib_is_one_log_line(tmp_path, make_sweep):
    code = """
import logging, pathlib, sys
sys.modules["matplotlib"] = None
logging.basicConfig(format="%(message)s")
from distcond.reporting.trade_off_plot import trade_off_png
from distcond.results.row import Row
row = Row(run_id="r", epoch=1, step=1, split="test", checkpoint="best", lam=0, method="m", model="n", dataset="d",
          seed=0, num_correct=1, num_examples=2)
assert trade_off_png([row], "curve.png") is None
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LIMIT)
    assert done.stderr == "no figure: matplotlib is missing (pip install matplotlib)\n"
