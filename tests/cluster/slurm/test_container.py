"""How signals reach a run in a container. A script on PATH behaves like SLURM's srun."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from cluster.slurm.process import ChildProcess
from cluster.slurm.profile import Container
from support.processes import LIMIT
from support.waiting import wait_until

#: Tasks start with default signal handlers. srun kills them on SIGTERM and forwards SIGUSR1.
SRUN = f"""#!{sys.executable}
import signal, subprocess, sys
def default():
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
words = sys.argv[1:]
task = subprocess.Popen(words[words.index("sh"):], preexec_fn=default)
signal.signal(signal.SIGTERM, lambda *_: task.kill())
signal.signal(signal.SIGUSR1, lambda *_: task.send_signal(signal.SIGUSR1))
sys.exit(task.wait() % 256)
"""
#: Prints that it is alive; exits at once on a second SIGTERM.
RUN = """
import os, signal, sys, time
def stop(*_):
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    print("stopping", flush=True)
    time.sleep(1)
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
print(os.getppid(), os.getpid(), flush=True)
while True:
    time.sleep(0.05)
    print("alive", flush=True)
"""


@pytest.fixture
def started(tmp_path: Path) -> tuple[ChildProcess, Path, list[int]]:
    """A Pyxis container, its output, and the process IDs of the step's task and of the run in it."""
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    words = Container("pyxis", "/image.sqsh").command(1)
    out = tmp_path / "out"
    child = ChildProcess(
        [*words, sys.executable, "-c", RUN], {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin"}, out, True
    )
    wait_for(child, out, "alive")
    return child, out, [int(word) for word in out.read_text().splitlines()[0].split()]


def wait_for(child: ChildProcess, out: Path, word: str, count: int = 1) -> None:
    """Wait until the run has printed a word `count` times."""
    wait_until(lambda: out.read_text().count(word) >= count, word, process=child.process)


def test_sigterm_reaches_the_run_through_srun(started: tuple[ChildProcess, Path, list[int]]) -> None:
    child, _, _ = started
    child.send_signal(signal.SIGTERM)
    assert child.wait(LIMIT) == 143
    child.end()


def test_slurms_own_signals_to_steps_are_harmless(started: tuple[ChildProcess, Path, list[int]]) -> None:
    child, out, (task, run) = started
    os.kill(task, signal.SIGUSR2)  # the time limit
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # without cgroups SLURM signals every process of a step
        os.kill(run, number)
    wait_for(child, out, "alive", count=out.read_text().count("alive") + 5)  # more than were already on the way
    os.kill(task, signal.SIGTERM)  # scancel, after which the job's own step forwards it too
    wait_for(child, out, "stopping")
    child.send_signal(signal.SIGTERM)
    assert child.wait(LIMIT) == 143
    child.end()
