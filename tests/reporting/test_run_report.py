from __future__ import annotations

import pytest

from distcond.errors import ConfigError
from distcond.reporting.run_report import summarise, write_report
from distcond.results.history import append
from distcond.results.store import write_part
from distcond.results.tables import markdown_table, trade_off_table


def test_a_report_of_one_run(tmp_path, make_sweep):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    rows = make_sweep()
    write_part(tmp_path, "test-best", rows)
    append(tmp_path, {"epoch": 0, "train_loss": 1.0})
    written = write_report(tmp_path)
    results = tmp_path / "results"
    assert written == [results / "table.md", results / "curve.png", results / "history.png"]
    assert (results / "table.md").read_text(encoding="utf-8") == markdown_table(rows) + "\n"
    table, files = summarise(tmp_path).rsplit("\n\n", 1)
    assert table == trade_off_table(rows)
    assert [line.split() for line in files.splitlines()] == [
        ["rows", str(results)],
        ["table", str(results / "table.md")],
        ["curve", str(results / "curve.png")],
        ["history", str(tmp_path / "history.jsonl")],
        ["epochs", str(results / "history.png")],
    ]


def test_a_report_over_runs_leaves_the_runs_alone(tmp_path, make_sweep):
    for run_id in ("a", "b"):
        write_part(tmp_path / run_id, "part", make_sweep(run_id=run_id))
    before = sorted(tmp_path.rglob("*"))
    assert summarise(tmp_path).endswith(f"rows     {tmp_path}")
    write_report(tmp_path)
    added = sorted(set(tmp_path.rglob("*")) - set(before))
    assert {path.relative_to(tmp_path).parts[0] for path in added} == {"results"}
    assert "| a |" in (tmp_path / "results" / "table.md").read_text(encoding="utf-8")


def test_a_run_without_results(tmp_path):
    assert summarise(tmp_path) == "no results"
    with pytest.raises(ConfigError, match="no folder"):
        summarise(tmp_path / "nowhere")


def test_one_checkpoint_is_shown_once(tmp_path, make_sweep):
    for epochs, tables in (({"best": 30, "last": 30}, 1), ({"best": 25, "last": 30}, 2)):
        for which, epoch in epochs.items():
            write_part(tmp_path, f"test-{which}", make_sweep((0.0,), checkpoint=which, epoch=epoch, split="test"))
        assert summarise(tmp_path).count("lam  ") == tables


def test_a_page_of_the_best_checkpoint_on_test(tmp_path, make_sweep):
    pytest.importorskip("plotly", reason="needs plotly")
    for name, split, which in (("a", "val", "live"), ("b", "test", "last"), ("c", "test", "best")):
        write_part(tmp_path, name, make_sweep((0.0, 1.0) if which == "best" else (0.5,), split=split, checkpoint=which))
    page = tmp_path / "results" / "page.html"
    assert page not in write_report(tmp_path) and not page.exists()
    assert write_report(tmp_path, page=True)[-1] == page
    assert '"lams": [0.0, 1.0]' in page.read_text(encoding="utf-8")
    assert summarise(tmp_path).count(str(page)) == 1


def test_validation_alone_has_no_page(tmp_path, make_sweep):
    write_part(tmp_path, "val", make_sweep(split="val", checkpoint="live"))
    write_report(tmp_path, page=True)
    assert not (tmp_path / "results" / "page.html").exists()
