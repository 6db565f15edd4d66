"""The helpers of the other tests."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.processes import run, start
from support.waiting import wait_until

# A child in a session of its own, as Ray's daemons are; both print, and say when they are there.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; print('child', flush=True); time.sleep(1000)"],
    start_new_session=True)
print("pid", child.pid, flush=True)
time.sleep(1000 if sys.argv[1:] else 0)
"""


def test_run_gives_status_and_all_output() -> None:
    done = run(
        [sys.executable, "-c", "import os, sys; print('out', flush=True); print('err', file=sys.stderr); exit(3)"]
    )
    assert (done.status, done.output) == (3, "out\nerr\n")


def test_run_passes_folder_and_environment(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd(), os.environ['A'], 'HOME' in os.environ)"
    assert run([sys.executable, "-c", code], cwd=tmp_path, env={"A": "1"}).output == f"{tmp_path} 1 False\n"


def test_signal_ends_a_process_with_its_status() -> None:
    with start([sys.executable, "-c", "print('there', flush=True); import time; time.sleep(1000)"]) as process:
        wait_until(lambda: "there" in process.output, "the process", process=process)
        process.send_signal(signal.SIGTERM)
        assert process.wait() == -signal.SIGTERM


@pytest.mark.parametrize(("arguments", "message"), [(["stay"], "still running after"), ([], "ended with 0, but")])
def test_time_limit_kills_children_and_shows_output(arguments: list[str], message: str) -> None:
    with start([sys.executable, "-c", PARENT, *arguments]) as process:
        wait_until(lambda: "child" in process.output, "the child")
        with pytest.raises(AssertionError, match=rf"(?s){message}.*pid \d+"):
            process.wait(0.5)
        child = int(process.output.split("pid ")[1].split()[0])
        assert not _runs(child)


def test_nothing_runs_after_the_block() -> None:
    with start([sys.executable, "-c", PARENT, "stay"]) as process:
        wait_until(lambda: "child" in process.output, "the child", process=process)
    child = int(process.output.split("pid ")[1].split()[0])
    assert not _runs(child) and not _runs(process.pid)


def test_waiting_says_what_did_not_come() -> None:
    with pytest.raises(AssertionError, match="the moon: not within"):
        wait_until(lambda: False, "the moon", 0.01)


def test_waiting_ends_with_the_watched_process() -> None:
    with start([sys.executable, "-c", "print('bye'); exit(4)"]) as process:
        with pytest.raises(AssertionError, match=r"(?s)the moon.* status 4.*"):
            wait_until(lambda: False, "the moon", process=process)
        assert process.wait() == 4 and process.output == "bye\n"


def test_waiting_gives_what_the_condition_gave() -> None:
    assert wait_until(iter([0, "", "found"]).__next__, "the third", every=0.0) == "found"


def leave(rank: int, world: int) -> int:
    return rank


def test_ranks_with_nothing_to_do_meet(run_ranks: Callable[..., list[int]]) -> None:
    for _ in range(20):
        assert run_ranks(leave, 3) == [0, 1, 2]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
