"""The commands a job runs, with their environment, in a container or not; and child processes that never outlive it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from cluster.slurm.profile import RAY_SHUTDOWN_SECONDS, Profile
from cluster.slurm.runs import Run

#: The checkout: what a job runs is what lies here when it runs.
ROOT = Path(__file__).resolve().parents[2]
#: The variable with the time at which a job's script began: its Python comes later, from a slow disk much later.
BEGAN_VARIABLE = "DISTCOND_JOB_BEGAN"


def module_command(name: str, words: Sequence[str], profile: Profile) -> list[str]:
    """`python -m NAME WORDS` as the profile wants it run."""
    box = profile.container
    python = [sys.executable] if box is None else [*box.command(profile.cpus_per_task), box.python]
    return [*python, "-u", "-m", name, *words]


def run_command(run: Run, profile: Profile) -> list[str]:
    """The run as a command: from its start, or on from where it is."""
    if run.tune:
        begun = Path(run.run_dir, "sweep.json").exists()
        given = any(word.startswith("launch.grace=") for word in run.tune)
        words = [*run.tune, *([] if given else [grace_setting(profile)]), f"dir={run.run_dir}"]
        return module_command("distcond.tune", ["--resume", run.run_dir] if begun else words, profile)
    return train_command(run.asked.words(), profile)


def train_command(words: Sequence[str], profile: Profile) -> list[str]:
    """`distcond.train` with the launcher that the profile's mode stands for."""
    launcher = "ray" if profile.mode == "ray" else "local"
    return module_command("distcond.train", [*words, f"launch={launcher}", grace_setting(profile)], profile)


def grace_setting(profile: Profile) -> str:
    """The time to save in: that before the limit but for that in which Ray is taken down and the job requeued."""
    seconds = max(
        profile.signal_seconds / 2, profile.signal_seconds - 20 - (RAY_SHUTDOWN_SECONDS if profile.mode == "ray" else 0)
    )
    return f"launch.grace={seconds:g}"


def child_environment(profile: Profile) -> dict[str, str]:
    """The variables of everything that a job starts."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(profile.cpus_per_task), **profile.environment}


#: Seconds between two looks.
POLL = 0.2


class ChildProcess:
    """A started command, in a process group of its own.

    Args:
        command: its words.
        environment: all its variables.
        out: a file for its output; None = where this process writes.
        deaf: whether SIGUSR2 must not reach it. Some SLURMs send it to every process of a job, and it would end Ray.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        out: Path | None = None,
        ignore_sigusr2: bool = False,
    ) -> None:
        words = ["sh", "-c", 'trap "" USR2; exec "$0" "$@"', *command] if ignore_sigusr2 else list(command)
        file: IO[bytes] | None = open(out, "ab") if out else None  # noqa: SIM115  closed below
        self.process = subprocess.Popen(words, env=dict(environment), stdout=file, stderr=file, start_new_session=True)
        if file is not None:
            file.close()

    def status(self) -> int | None:
        """How it ended, negative for a signal; None while it runs.

        Without the lock of Popen: a signal handler asks, too, while the main thread may be holding it.
        """
        if self.process.returncode is not None:
            return self.process.returncode
        found = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def wait(self, seconds: float | None = None) -> int | None:
        """How it ended, None if it has not after so many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        while (status := self.status()) is None and (end is None or time.monotonic() < end):
            time.sleep(POLL)
        return status

    def send_signal(self, number: int) -> None:
        """Send it a signal; its own children hear of it from itself."""
        if self.status() is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def end(self, seconds: float = 0.0) -> None:
        """SIGTERM and, for what is left of its group after so many seconds, SIGKILL."""
        if self.status() is None and seconds:
            self.send_signal(signal.SIGTERM)
            self.wait(seconds)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
