"""What a job does at the signal, without SLURM: what is requeued, and what its exit record says."""

from __future__ import annotations

import inspect
import json
import signal
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from submitit.local.local import Controller

from cluster.slurm.job_environment import (
    FIRST_PORT,
    PORT_BLOCKS,
    PORTS_PER_JOB,
    JobEnvironment,
    first_host,
    free_port_block,
    last_host,
    rank_variables,
    read_job_environment,
)
from cluster.slurm.process import ChildProcess
from cluster.slurm.profile import parse_profile
from cluster.slurm.runs import Run
from cluster.slurm.task import RunFailed, Task, hold_slot
from support.processes import run
from support.waiting import wait_until

STOPS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit({status}))
print(1, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("SLURM_JOB_END_TIME", "DISTCOND_JOB_BEGAN"):  # set if these tests run in a job
        monkeypatch.delenv(name, raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR2)}
    yield
    for number, was in before.items():
        signal.signal(number, was)


def task_of(tmp_path: Path, program: str, minutes_ago: float = 0.0, **profile: Any) -> Task:
    """A task whose child runs a program and has printed a line."""
    values = {"time_min": 8, "signal_seconds": 30, "max_timeouts": 1} | profile
    task = Task(Run("run", str(tmp_path / "run"), "float_digits", {}), parse_profile(values, "test"), str(tmp_path))
    task.began = time.time() - 60 * minutes_ago
    out = tmp_path / "out"
    out.unlink(missing_ok=True)
    task.child = ChildProcess([sys.executable, "-c", program], {}, out)
    wait_until(out.read_text, "its first line", process=task.child.process)
    return task


def exit_record(tmp_path: Path) -> tuple[int | None, str]:
    record = json.loads((tmp_path / "ended" / "run.json").read_text())
    return record["status"], record["why"]


def test_preempted_run_is_requeued_without_counting_a_timeout(tmp_path: Path) -> None:
    task = task_of(tmp_path, STOPS.format(status=143), minutes_ago=5)
    sent = task.checkpoint()
    assert sent is not None and sent.function.timeouts == 0
    assert exit_record(tmp_path) == (143, "requeued")
    # Otherwise `scontrol requeue`, a child of this process, could die of the requeue that it requests.
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def test_timeouts_are_counted_and_bounded(tmp_path: Path) -> None:
    task = task_of(tmp_path, STOPS.format(status=143), minutes_ago=7.3)
    sent = task.checkpoint()
    assert sent is not None and sent.function.timeouts == 1
    assert exit_record(tmp_path) == (143, "requeued at the time limit (1 of 1)")
    task = task_of(tmp_path, STOPS.format(status=143), minutes_ago=7.3)
    task.timeouts = 1
    assert task.checkpoint() is None
    assert "reached the time limit 2 times" in exit_record(tmp_path)[1]


def test_local_run_ends_with_submitits_retry_limit(tmp_path: Path) -> None:
    starts = inspect.signature(Controller.run).parameters["max_retry"].default
    for timeouts, requeued in ((starts - 2, True), (starts - 1, False)):
        task = task_of(tmp_path, STOPS.format(status=143), minutes_ago=7.3, executor="local", max_timeouts=10)
        task.timeouts = timeouts
        assert (task.checkpoint() is not None) == requeued
    assert exit_record(tmp_path)[1].startswith(f"reached the time limit {starts} times; `retry` resumes")


def test_time_limit_comes_from_slurm_or_job_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, profile = Run("run", str(tmp_path), "float_digits", {}), {"time_min": 8, "signal_seconds": 30}
    task = Task(run, parse_profile(profile, "test"), str(tmp_path))
    local = Task(run, parse_profile({**profile, "executor": "local"}, "test"), str(tmp_path))
    now = task.began = local.began = time.time()  # when its Python started; the job is older
    assert not task.at_limit()
    monkeypatch.setenv("DISTCOND_JOB_BEGAN", str(int(now - 60 * 7.3)))
    assert task.at_limit() and local.at_limit()
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(now + 300)))  # its limit was raised
    assert not task.at_limit() and local.at_limit()
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(now + 31)))
    monkeypatch.delenv("DISTCOND_JOB_BEGAN")
    assert task.at_limit() and not local.at_limit()


def test_run_finished_within_grace_is_not_requeued(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as end:
        task_of(tmp_path, STOPS.format(status=0)).checkpoint()
    assert end.value.code == 0
    assert exit_record(tmp_path) == (0, "finished")


def test_run_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.slurm.task.KEPT", 14)
    program = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint(1, flush=True)\ntime.sleep(600)"
    )
    task = task_of(tmp_path, program, signal_seconds=15)
    assert task.checkpoint() is not None
    assert exit_record(tmp_path) == (None, "requeued")
    assert task.child is not None and task.child.process.returncode == -signal.SIGKILL


def test_a_signal_before_the_start_requeues(tmp_path: Path) -> None:
    task = Task(Run("run", str(tmp_path), "float_digits", {}), parse_profile({}, "test"), str(tmp_path))
    assert task.checkpoint() is not None
    assert exit_record(tmp_path) == (None, "requeued")


@pytest.mark.parametrize("slots", [1, 2])
def test_task_stopped_early_starts_no_child(tmp_path: Path, slots: int) -> None:
    profile = parse_profile({"executor": "local", "parallel": slots}, "test")
    task = Task(Run("run", str(tmp_path / "run"), "float_digits", {}), profile, str(tmp_path))
    task.signal_number = signal.SIGTERM
    with hold_slot(tmp_path / "slots", 1, lambda: True), pytest.raises(RunFailed, match="run stopped before it began"):
        task()
    assert task.child is None and exit_record(tmp_path) == (143, "stopped before it began")


def test_signal_handlers_can_wait_for_the_child(tmp_path: Path) -> None:
    program = """
        import os, signal, sys
        from cluster.slurm.process import ChildProcess
        child = ChildProcess([sys.executable, "-c", "import time; time.sleep(600)"], os.environ)
        signal.signal(signal.SIGALRM, lambda *_: (child.send_signal(signal.SIGTERM), print(child.wait(60), flush=True)))
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        print(child.wait(), flush=True)
        child.end()
    """
    done = run([sys.executable, "-c", textwrap.dedent(program)], cwd=Path(__file__).parents[3])
    assert done.output.split() == ["-15", "-15"], done.output


def test_early_sigusr2_does_not_reach_the_child(tmp_path: Path) -> None:
    out, script = tmp_path / "out", 'trap "echo alive" USR1; echo up; while :; do sleep 0.1; done'
    child = ChildProcess(["sh", "-c", script], {"PATH": "/usr/bin:/bin"}, out, ignore_sigusr2=True)
    wait_until(lambda: "up" in out.read_text(), "its start", process=child.process)
    for number in (signal.SIGUSR2, signal.SIGUSR1):
        child.send_signal(number)
    wait_until(lambda: "alive" in out.read_text(), "a sign of life", process=child.process)
    child.end()
    assert child.process.returncode == -signal.SIGKILL


def test_first_and_last_host_of_node_list() -> None:
    assert (first_host("gpu[003-5,9],cpu1"), last_host("gpu[003-5,9],cpu1")) == ("gpu003", "cpu1")
    assert (first_host("n1"), last_host("n1")) == ("n1", "n1")
    assert (first_host("a-b[1-3]"), last_host("a-b[1-3]")) == ("a-b1", "a-b3")
    assert last_host("x1,y[07,09]") == "y09"


def test_array_tasks_and_jobs_have_distinct_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    def job_env(**variables: str) -> JobEnvironment:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(f"SLURM_{name}", value)
            return read_job_environment()

    fifth = job_env(JOB_ID="107", ARRAY_JOB_ID="100", ARRAY_TASK_ID="5")
    sixth = job_env(JOB_ID="108", ARRAY_JOB_ID="100", ARRAY_TASK_ID="6")
    single = job_env(JOB_ID="105")
    assert [one.job for one in (fifth, sixth, single)] == ["100_5", "100_6", "105"]
    assert len({one.number for one in (fifth, sixth, single)}) == 3
    ports = [rank_variables(one._replace(tasks=2), 1)["MASTER_PORT"] for one in (fifth, sixth, single)]
    assert len(set(ports)) == 3


def test_jobs_on_one_node_use_distinct_ports() -> None:
    import socket

    mine, other = free_port_block(5), free_port_block(6)
    assert not set(mine) & set(other)
    with socket.socket() as taken:
        taken.bind(("", mine[0]))
        assert free_port_block(5) != mine
    assert all(
        FIRST_PORT <= port < FIRST_PORT + PORTS_PER_JOB * PORT_BLOCKS <= 32768 for port in (*mine, *free_port_block(87))
    )
