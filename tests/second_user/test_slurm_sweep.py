"""Sweeps whose jobs would run what a second user has put there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.slurm.__main__ import main
from cluster.slurm.job_environment import JobEnvironment
from cluster.slurm.profile import load_profile
from cluster.slurm.ray_nodes import RayFailed, start_head
from distcond.config.command_line import run_cli
from support import second_user


def refusal(capsys: pytest.CaptureFixture[str], command: str, sweep: Path, *more: str) -> str:
    """Standard error of a command that ends with status 2."""
    with pytest.raises(SystemExit) as end:
        run_cli(lambda: main([command, str(sweep), "float_digits", "--profile", "local", *more]))
    assert end.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("command", ["plan", "submit"])
@pytest.mark.parametrize("opened", [".", "sweep", "sweep/jobs", "sweep/ray"])
def test_sweep_that_others_may_write_is_refused(
    open_path: Path, capsys: pytest.CaptureFixture[str], command: str, opened: str
) -> None:
    (open_path / opened).mkdir(parents=True, exist_ok=True)
    (open_path / opened).chmod(0o777)
    before = sorted(open_path.rglob("*"))
    assert second_user.do((open_path / opened / "theirs").mkdir) == ""
    (open_path / opened / "theirs").rmdir()
    assert "writable by every user" in refusal(capsys, command, open_path / "sweep")
    assert sorted(open_path.rglob("*")) == before


def test_sweep_of_another_user_is_refused(shared_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    second_user.do((shared_path / "sweep").mkdir)
    assert "belongs to user" in refusal(capsys, "submit", shared_path / "sweep")


def test_group_is_trusted_only_where_told(open_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.chown(open_path, 0, second_user.NUMBER)
    open_path.chmod(0o775)
    assert "trust_group=true" in refusal(capsys, "plan", open_path / "sweep")
    words = ["plan", str(open_path / "sweep"), "float_digits", "--profile", "local", "--set", "trust_group=true"]
    assert main(words) == 0


def test_token_is_not_written_into_foreign_folder(shared_path: Path) -> None:
    profile, job = load_profile("ray", {}), JobEnvironment("7", 7)
    (shared_path / "ray").mkdir()
    (shared_path / "ray").chmod(0o1777)
    assert second_user.do(lambda: (shared_path / "ray" / job.key).mkdir(mode=0o777)) == ""
    with pytest.raises(RayFailed, match="belongs to user"), start_head(job, profile, shared_path, lambda: False):
        pass
    assert list((shared_path / "ray" / job.key).iterdir()) == []
