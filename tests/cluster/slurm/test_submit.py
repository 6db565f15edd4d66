"""Sweep directories without SLURM: the manifest, what is submitted once, what is refused."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.slurm.profile import load_profile, parse_profile
from cluster.slurm.runs import SweepRequest, assign_run_ids, expand_runs
from cluster.slurm.status import last_submissions
from cluster.slurm.submit import check_shared_directories, create_sweep, file_system_type, is_taken
from cluster.slurm.sweep import Sweep
from distcond.errors import ConfigError


def create(bench: Any, count: int = 3, **keys: Any) -> Sweep:
    """A new sweep of which nothing is submitted."""
    runs = assign_run_ids(expand_runs(SweepRequest(seeds=f"0-{count - 1}")), bench.sweep.path / "runs")
    create_sweep(bench.sweep, runs, load_profile(bench.profile(**keys), {}))
    return Sweep(bench.sweep.path)


def refusal(bench: Any, *args: str, **profile: Any) -> str:
    """The one line with which `submit` refuses."""
    status, out, error = bench.call("submit", *args, "--profile", bench.profile(**profile))
    assert (status, out, error.count("\n")) == (2, "", 1), (out, error)
    return str(error)


def test_plan_writes_nothing(bench: Any) -> None:
    status, out, _ = bench.call("plan", "--seeds", "0-2", "--profile", bench.profile())
    assert status == 0
    assert "#SBATCH --array=0-2%3" in out and "3 run(s)" in out
    assert not bench.sweep.path.exists()


def test_missing_slurm_is_refused(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    error = refusal(bench)
    assert error.startswith("error: sbatch ") and "PATH" in error and "--profile local" in error
    assert not bench.sweep.exists


def test_node_local_directory_is_refused(bench: Any) -> None:
    assert str(bench.path) in refusal(bench, shared_tmp=False)
    assert file_system_type(Path("/dev/shm/x/y")) in ("tmpfs", "")


def test_link_to_node_local_directory_is_refused() -> None:
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent) as elsewhere:  # tmp_path is in /tmp itself
        link = Path(elsewhere) / "link"
        link.symlink_to("/tmp/of-this-node")
        with pytest.raises(ConfigError, match=f"^{link}/sweep: in /tmp"):
            check_shared_directories([link / "sweep"], parse_profile({}, "test"))


def test_directory_of_another_sweep_is_refused(bench: Any) -> None:
    create(bench)
    assert "another sweep (3 runs, such as float-digits" in refusal(bench, "epochs=7")


def test_commands_need_a_sweep(bench: Any) -> None:
    for command in ("status", "retry", "cancel", "gather"):
        status, _, error = bench.call(command)
        assert (status, "slurm.json" in error) == (2, True), error


def test_unknown_arguments_are_refused(bench: Any) -> None:
    assert all(part in bench.call("start")[2] for part in ("'start'", "plan, submit"))
    assert "--set colour" in refusal(bench, "--set", "colour")
    create(bench)
    assert "run zebra: 0 runs" in bench.call("logs", "zebra")[2]
    assert "run float: 3 runs" in bench.call("logs", "float")[2]
    assert "no known job" in bench.call("logs", "0")[2]


def test_interrupted_submission_is_not_forgotten(bench: Any) -> None:
    sweep = create(bench)
    names = [run.run_id for run in sweep.runs]
    sweep.record_submission(name="a", runs=names[:2], time=0.0)
    sweep.record_submission(name="a", jobs=["7_0", "7_1"])
    sweep.record_submission(name="b", runs=names[2:], time=0.0)
    sweep.record_submission(name="c", runs=names[:1], time=0.0)
    sweep.record_submission(name="c", refused="no")
    with open(sweep.path / "submissions.jsonl", "a") as file:
        file.write('{"name": "d", "ru')

    last = last_submissions(sweep)
    assert [(last[name].name, last[name].array_index, last[name].job) for name in names] == [
        ("a", 0, "7_0"), ("a", 1, "7_1"), ("b", 0, ""),
    ]  # fmt: skip


def test_run_of_another_sweep_is_not_submitted(bench: Any, tmp_path: Path) -> None:
    sweep, other = create(bench), tmp_path / "another"
    other.mkdir()
    (other / "slurm.json").write_text("{}")
    first, second, third = sweep.runs
    for run, who in ((first, other), (second, sweep.path), (third, tmp_path / "gone")):
        Path(run.run_dir).mkdir(parents=True)
        Path(run.run_dir, "submitted_by.txt").write_text(str(who))
    assert [is_taken(run, sweep) for run in (first, second, third)] == [True, False, False]
    Path(second.run_dir, "finished.json").write_text("{}")
    assert is_taken(second, sweep)


def test_changed_profile_is_refused(bench: Any) -> None:
    create(bench)
    error = refusal(bench, "--seeds", "0-2", "--set", "memory_gb=7")
    assert "memory_gb=" in error and "slurm.json" in error


def test_five_hundred_runs_are_planned_in_seconds(bench: Any) -> None:
    before = time.process_time()
    sweep = create(bench, 500)
    assert time.process_time() - before < 5
    assert len(sweep.runs) == 500
    assert json.loads((sweep.path / "slurm.json").read_text())["runs"] == 500
