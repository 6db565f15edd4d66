"""Reports and status of many runs: one screen, every file read once."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from distcond import report
from distcond.reporting.overview import MAX_LINES, MAX_RUNS
from distcond.reporting.query import parse_query
from distcond.results.store import part_files, write_part
from support.many_runs import write_finished_runs

RUNS = MAX_RUNS + 5
_opened: Counter[str] | None = None


def _count(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _opened is not None and isinstance(arguments[0], str | os.PathLike):
        _opened[os.fspath(arguments[0])] += 1


sys.addaudithook(_count)  # for good, so it does nothing unless a test counts


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often every file was opened: by Python, or by pyarrow as parquet."""
    global _opened
    _opened = counter = Counter[str]()

    class Counted(pyarrow.parquet.ParquetFile):
        def __init__(self, source: Path, **options: Any) -> None:
            counter[str(source)] += 1
            super().__init__(source, **options)

    monkeypatch.setattr("pyarrow.parquet.ParquetFile", Counted)
    yield counter
    _opened = None


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    write_finished_runs(root, RUNS)
    return root


def test_report_reads_every_file_once(runs: Path, opened: Counter[str], tmp_path: Path) -> None:
    assert report.main([str(runs), f"png={tmp_path / 'a.png'}", "ra=0.2"]) == 0
    own = {path: count for path, count in opened.items() if path.startswith(f"{runs}/")}
    parts = {str(path) for path in part_files(runs)}
    assert parts <= set(own)
    assert {path: count for path, count in own.items() if count > 1} == {}


def text_of(*words: object) -> str:
    """The text of a report, without drawing figures."""
    query = parse_query([str(word) for word in words])
    return report.content_text(query, report.read_content(query))


def test_many_runs_are_shown_on_one_screen(runs: Path) -> None:
    short, full = text_of(runs), text_of(runs, "all=true")
    assert len(short.splitlines()) < MAX_LINES + 8 < len(full.splitlines())
    assert f"{RUNS} runs" in short and "in the Pareto set" in short
    assert all(text in short for text in ("highest SA", "highest RA", "all=true", "hypervolume"))
    first, second = (text[text.index("hypervolume") :].split(",")[0] for text in (short, full))
    assert first == second


def test_few_runs_are_shown_in_full(runs: Path) -> None:
    assert "overview" not in text_of(*sorted(path for path in runs.iterdir() if path.is_dir())[:2])


def test_choice_considers_runs_not_shown(runs: Path) -> None:
    lines = [text_of(runs, "ra=0.2", "sa=0.9", *more).splitlines() for more in ([], ["all=true"])]
    chosen = [[line.split(" take ")[1].split(": SA ")[1] for line in text if " take " in line] for text in lines]
    assert chosen[0] == chosen[1] != []


def test_overview_of_many_attacks_fits_a_screen(tmp_path: Path, make_row: Any) -> None:
    for number in range(MAX_RUNS + 1):
        common = {"run_id": f"r{number}", "num_examples": 1000}
        rows = [make_row(num_correct=900 - number, **common)]
        rows += [
            make_row(num_correct=100 + 3 * number + steps, attack="pgd", norm="Linf", epsilon=0.1, step_size=0.01,
                     num_steps=steps, random_start=1, **common)
            for steps in range(1, 8)
        ]  # fmt: skip
        write_part(tmp_path / f"r{number}", "test-best", rows)
    text = text_of(tmp_path)
    assert len(text.splitlines()) < MAX_LINES + 8 and "and 4 more attacks" in text


def test_other_splits_are_not_decoded(runs: Path, opened: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = list[str]()
    read = pyarrow.parquet.ParquetFile.read
    monkeypatch.setattr(
        "pyarrow.parquet.ParquetFile.read", lambda self, **options: decoded.append("") or read(self, **options)
    )
    assert report.main([str(runs), f"png={runs / 'a.png'}"]) == 0
    assert len(decoded) == RUNS
