"""The commands that a job runs, with their environment, in a container or not; and child processes that end with it."""

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

#: The checkout. A job runs the code that is there when it starts.
ROOT = Path(__file__).resolve().parents[2]

#: Set by the job script to the time at which it began: Python may start much later from a slow disk.
BEGAN_VARIABLE = "DISTCOND_JOB_BEGAN"

#: Seconds between two polls.
POLL = 0.2


def run_command(run: Run, profile: Profile) -> list[str]:
    """The command that starts or resumes a run."""
    if not run.tune:
        return train_command(run.spec.args(), profile)
    if Path(run.run_dir, "sweep.json").exists():
        return module_command("distcond.tune", ["--resume", run.run_dir], profile)
    has_grace = any(arg.startswith("launch.grace=") for arg in run.tune)
    grace = [] if has_grace else [grace_setting(profile)]
    return module_command("distcond.tune", [*run.tune, *grace, f"dir={run.run_dir}"], profile)


def train_command(args: Sequence[str], profile: Profile) -> list[str]:
    """`distcond.train ARGS` with the launcher of the profile's mode."""
    launcher = "ray" if profile.mode == "ray" else "local"
    return module_command("distcond.train", [*args, f"launch={launcher}", grace_setting(profile)], profile)


def module_command(name: str, args: Sequence[str], profile: Profile) -> list[str]:
    """`python -m NAME ARGS`, in the profile's container if it has one."""
    box = profile.container
    python = [sys.executable] if box is None else [*box.command(profile.cpus_per_task), box.python]
    return [*python, "-u", "-m", name, *args]


def grace_setting(profile: Profile) -> str:
    """`launch.grace=SECONDS`: the time before the limit, less what it takes to shut Ray down and requeue the job."""
    shutdown = RAY_SHUTDOWN_SECONDS if profile.mode == "ray" else 0
    seconds = max(profile.signal_seconds / 2, profile.signal_seconds - 20 - shutdown)
    return f"launch.grace={seconds:g}"


def child_environment(profile: Profile) -> dict[str, str]:
    """The environment of everything that a job starts."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": str(profile.cpus_per_task), **profile.environment}


def processes_with_token(token: Path) -> list[int]:
    """IDs of the other processes of the Ray cluster that uses `token`, found by their environment."""
    # The same as in distcond.launch.ray.local_auth, which this package may not import.
    entry = f"RAY_AUTH_TOKEN_PATH={token}".encode()
    processes = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):  # ended meanwhile, or another user's
                if entry in (folder / "environ").read_bytes().split(b"\0"):
                    processes.append(int(folder.name))
    return processes


class ChildProcess:
    """A child process in its own process group.

    Args:
        command: the program and its arguments.
        environment: all its variables.
        out: a file for its output; None = this process's.
        ignore_sigusr2: whether it ignores SIGUSR2. Some SLURMs send it to every process of a job, and it would end Ray.
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
        """The exit status, negative for a signal; None while it runs.

        Does not take the lock of Popen: a signal handler calls this too, while the main thread may hold the lock.
        """
        if self.process.returncode is not None:
            return self.process.returncode
        found = os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if found is None:
            return None
        return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def wait(self, seconds: float | None = None) -> int | None:
        """Wait for the exit status; None if the process still runs after so many seconds."""
        end = None if seconds is None else time.monotonic() + seconds
        while (status := self.status()) is None and (end is None or time.monotonic() < end):
            time.sleep(POLL)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal to the process, not to its children."""
        if self.status() is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def end(self, seconds: float = 0.0) -> None:
        """Send SIGTERM; after so many seconds SIGKILL what is left of its process group."""
        if self.status() is None and seconds:
            self.send_signal(signal.SIGTERM)
            self.wait(seconds)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
