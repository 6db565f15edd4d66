"""RunStatus: the state of runs, read from their files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from distcond.runs.run_files import RunFiles, find_runs
from distcond.runs.state_files import read_state_files
from distcond.runs.status import RunStatus, read_status, sort_statuses, statuses_as_json, statuses_as_table

NOW = 1_000_000.0
VAL = [{"lam": lam, "sa": 0.9 - lam / 10, "ra": 0.3 + lam / 10, "width": 1.0} for lam in (1.0, 0.5, 0.0)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that was started twice and is in its third epoch of ten."""
    path = tmp_path / "run"
    write(path, "config.json", {})
    write(path, "starts.json", [{}, {}])
    write(path, "progress.json", progress())
    (path / "history.jsonl").write_text(json.dumps({"epoch": 2, "val": VAL, "images_per_second": 5.0}) + '\n{"epo')
    return path


def progress(**values: Any) -> dict[str, Any]:
    at = {"stage": "train", "epochs": 10, "steps": 4, "epoch": 2, "step": 1, "time": NOW - 5, "images_per_second": 7.0}
    return at | {"done": 0.22, "seconds_left": 65.0} | values


def write(path: Path, name: str, value: Any) -> None:
    path.mkdir(exist_ok=True)
    (path / name).write_text(json.dumps(value))


def write_failure(path: Path, attempt: int, text: str, at: float) -> None:
    file = path / "failures" / f"attempt-{attempt:02d}-worker-0000.txt"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    os.utime(file, (at, at))


def read(path: Path) -> RunStatus:
    return read_status(RunFiles(str(path)), path.name, now=NOW)


def test_running_run(run: Path) -> None:
    found = read(run)
    assert (found.state, found.stage, found.epoch, found.epochs, found.share) == ("running", "train", 3, 10, 0.22)
    assert (found.split, found.lams, found.sa, found.ra) == ("val", (0.0, 1.0), (0.9, 0.8), (0.3, 0.4))
    assert (found.images_per_second, found.seconds_left, found.attempts) == (7.0, 60.0, 2)
    write(run, "attempt.json", {"attempt": 4})
    assert read(run).attempts == 5


def test_stale_and_failed_runs(run: Path) -> None:
    write(run, "progress.json", progress(time=NOW - 500))
    assert (read(run).state, read(run).heard, read(run).seconds_left) == ("stale", 500, None)
    write_failure(run, 0, "Traceback\nOSError: an old one\n", NOW - 900)
    assert read(run).state == "stale"
    write_failure(run, 1, "Traceback\n\nOSError: the disk is full\n", NOW - 499)
    assert (read(run).state, read(run).error) == ("failed", "OSError: the disk is full")
    write(run, "progress.json", progress(time=NOW - 1))  # its workers were restarted
    assert read(run).state == "running"


def test_end_recorded_by_the_driver_counts(run: Path) -> None:
    ended = {"why": "worker 1 died", "failed": True, "time": NOW}
    write(run, "starts.json", [{}, {"ended": ended}])
    assert (read(run).state, read(run).error) == ("failed", "worker 1 died")
    write(run, "starts.json", [{}, {"ended": ended | {"failed": False}}])
    assert (read(run).state, read(run).error) == ("stopped", "")
    write(run, "starts.json", [{"ended": ended}, {}])  # started again
    assert read(run).state == "running"
    write(run, "progress.json", progress(stage="stopped", time=NOW - 900))
    assert read(run).state == "stopped"


def test_finished_run_shows_test_results(run: Path) -> None:
    points = [{"lam": lam, "width": 1.0, "sa": 0.8, "ra": 0.5 + lam / 10} for lam in (0.0, 1.0)]
    write(run, "finished.json", {"epochs": 10, "points": points})
    write_failure(run, 0, "OSError: mended meanwhile\n", NOW - 900)
    found = read(run)
    assert (found.state, found.share, found.split, found.ra, found.error) == ("finished", 1.0, "test", (0.5, 0.6), "")


def test_missing_and_damaged_files_are_tolerated(tmp_path: Path) -> None:
    write(tmp_path / "new", "config.json", {})
    assert read(tmp_path / "new").state == "waiting"
    (tmp_path / "new" / "progress.json").write_text("{")
    (tmp_path / "new" / "history.jsonl").write_text("")
    assert read(tmp_path / "new").state == "waiting"
    assert read(tmp_path / "none").state == "waiting"


def test_runs_are_found_at_any_depth(run: Path, tmp_path: Path) -> None:
    write(run / "inner", "config.json", {})  # not a run of its own
    write(tmp_path / ".hidden", "config.json", {})
    (tmp_path / "deep" / "er").mkdir(parents=True)
    write(tmp_path / "deep" / "er" / "other", "config.json", {})
    found = {files.path for files in find_runs(tmp_path)}
    assert found == {str(run), str(tmp_path / "deep" / "er" / "other")}
    assert [files.path for files in find_runs(run)] == [str(run)]


def test_only_the_tail_of_history_is_read(run: Path) -> None:
    lines = [json.dumps({"epoch": epoch, "val": VAL, "filler": "x" * 900}) for epoch in range(400)]
    (run / "history.jsonl").write_text("\n".join(lines) + "\n")
    records = read_state_files(RunFiles(str(run))).records
    assert records[-1]["epoch"] == 399
    assert 20 < len(records) < 200


def test_table_starts_with_failed_runs(run: Path, tmp_path: Path) -> None:
    write(tmp_path / "a", "config.json", {})
    going = read(run)
    failed = RunStatus(name="b", place="b", state="failed", error="OSError: full")
    runs = sort_statuses([read(tmp_path / "a"), going, failed])
    head, columns, *rows = statuses_as_table(runs, 0).splitlines()
    assert head == "3 runs: 1 failed, 1 running, 1 waiting"
    assert [row.split()[0] for row in rows] == ["failed", "running", "waiting"]
    assert rows[1].split() == ["running", "run", "train", "3/10", "22%", "90.0/80.0", "30.0/40.0", "7", "60", "s", "2"]
    assert max(map(len, statuses_as_table(runs, 30).splitlines()[1:])) == 30
    assert [value["state"] for value in json.loads(statuses_as_json(runs))] == ["failed", "running", "waiting"]
    assert columns.split()[:2] == ["state", "run"]
