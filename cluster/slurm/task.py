"""Task: what submitit calls in each task of a job. Trains in a child process; on the signal, saves and requeues.

In a child, because its exit status and signal handlers are its own: what Ray or submitit installs in one process does
not disturb the other. The child may also run in a container, where SLURM's programs, which requeue, are missing.
Local sweeps run `parallel` tasks at a time: each holds a slot, a file lock that the system releases when a job dies.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import IO, Any

from submitit.core.utils import DelayedSubmission

from cluster.slurm.job_environment import JobEnvironment, rank_variables, read_job_environment
from cluster.slurm.process import BEGAN_VARIABLE, POLL, ChildProcess, child_environment, run_command
from cluster.slurm.profile import RAY_SHUTDOWN_SECONDS, SIGNAL_EARLY_SECONDS, Profile
from cluster.slurm.queue import KILL_WAIT, is_ending, kill_wait
from cluster.slurm.ray_nodes import start_head, start_worker
from cluster.slurm.runs import Run
from cluster.slurm.sweep import write_exit_record
from distcond.atomic_io import atomic_write_text, open_lock
from distcond.run_layout import FINISHED_FILE

#: Exit status of a run that SIGTERM has stopped.
STOPPED = 128 + signal.SIGTERM

#: Seconds before the time limit that are kept for requeuing.
KEPT = 8.0

#: Seconds before SIGKILL that a job needs to end its Ray and remove its files; at most half of the time it is given.
CLEANING = 6.0

#: Seconds between two tries to get a slot.
SLOT_POLL = 0.5

_log = logging.getLogger("submitit")


class RunFailed(Exception):
    """The child process did not finish the run."""


class Task:
    """A run as submitit calls it, in each task of the job.

    Args:
        run: what to train.
        profile: how.
        sweep: the sweep directory.
        timeouts: how often this run has reached its time limit before.
    """

    # Class attributes: the signal may arrive before `__call__` does.
    child: ChildProcess | None = None
    resources: ExitStack | None = None
    began, kill_wait = math.inf, KILL_WAIT
    signal_number = 0  # of the signal that was forwarded; 0 = none
    leave_at = math.inf  # by time.monotonic(): when nothing may be left if SLURM is ending the job

    def __init__(self, run: Run, profile: Profile, sweep: str, timeouts: int = 0) -> None:
        self.run, self.profile, self.sweep, self.timeouts = run, profile, sweep, timeouts

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("run", "profile", "sweep", "timeouts")}

    def __call__(self) -> None:
        """Run to the end.

        Raises:
            RunFailed: the run did not finish.
        """
        self.began, job_env = time.time(), read_job_environment()
        self.kill_wait = kill_wait() if self.profile.mode == "ray" else KILL_WAIT
        signal.signal(signal.SIGTERM, self._forward_signal)
        if job_env.rank > 0:
            signal.signal(signal.SIGUSR2, self._forward_signal)  # submitit's own handler is for the first task
        if self.profile.mode == "ray" and job_env.node > 0:
            start_worker(job_env, self.profile, Path(self.sweep), self._is_stopped, self._must_leave)
            return
        with ExitStack() as self.resources:
            variables = self.resources.enter_context(self._resources(job_env))
            status = self._train(variables)
        self._record_exit(job_env, status)

    def checkpoint(self) -> DelayedSubmission | None:
        """Called by submitit in the first task at the signal: let the run save. Returns what to requeue, if any."""
        # submitit's `scontrol requeue` is a child of this process and gets the SIGTERM of its own requeue. If it died
        # of that, submitit would report that the requeue failed.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        at_limit, job_env = self.at_limit(), read_job_environment()
        self.timeouts += at_limit
        status = self._stop_child()
        if self.resources is not None:
            self.resources.close()  # once the job is requeued, SLURM leaves no time to clean up
        if status == 0:
            write_exit_record(self.sweep, self.run.run_id, job_env, 0, "finished")
            sys.exit(0)
        most = self.profile.most_timeouts
        if self.timeouts > most:
            why = f"reached the time limit {self.timeouts} times; `retry` resumes from the last checkpoint"
            write_exit_record(self.sweep, self.run.run_id, job_env, status, why)
            return None
        why = f"requeued at the time limit ({self.timeouts} of {most})" if at_limit else "requeued"
        write_exit_record(self.sweep, self.run.run_id, job_env, status, why)
        return DelayedSubmission(Task(self.run, self.profile, self.sweep, self.timeouts))

    def at_limit(self) -> bool:
        """Whether the time limit is the reason for the signal, which may come `SIGNAL_EARLY_SECONDS` early."""
        return self._time_limit() - time.time() <= self.profile.signal_seconds + SIGNAL_EARLY_SECONDS + 15

    def _time_limit(self) -> float:
        """When the job's time is up, in seconds since 1970."""
        end = os.environ.get("SLURM_JOB_END_TIME") if self.profile.executor == "slurm" else None
        return float(end or float(os.environ.get(BEGAN_VARIABLE, self.began)) + 60 * self.profile.time_min)

    @contextmanager
    def _resources(self, job_env: JobEnvironment) -> Iterator[dict[str, str]]:
        """Within the block the child's slot or Ray cluster is held. Yields the child's environment."""
        base = child_environment(self.profile)
        if self.profile.executor == "local":
            slots = Path(self.sweep) / "slots"
            with hold_slot(slots, max(1, self.profile.parallel), lambda: not self._is_stopped()):
                yield base
        elif self.profile.mode == "ray":
            with start_head(job_env, self.profile, Path(self.sweep), self._is_stopped) as ray_variables:
                yield base | ray_variables
        else:
            yield base | rank_variables(job_env, self.profile.tasks_per_node)

    def _train(self, variables: dict[str, str]) -> int:
        """Train in a child. Returns its exit status; a task that is stopped before starts no child."""
        status = STOPPED
        if not self.signal_number:
            # Some SLURMs send SIGUSR2 to every process of a job, and a second signal would end the run at once. So the
            # child ignores SIGUSR2 and gets SIGTERM from here.
            self.child = ChildProcess(run_command(self.run, self.profile), variables, ignore_sigusr2=True)
            if self.signal_number:  # it arrived while the child started
                self.child.send_signal(signal.SIGTERM)
            try:
                status = self._wait_for_child(self.child)
            finally:
                self.child.end()
        if status != 0 and self.signal_number and self.profile.executor == "slurm":
            # SLURM is about to end this job. A task that exits with an error before would end the other tasks, and
            # possibly the job, which is to be requeued.
            if self.resources is not None:
                self.resources.close()  # SLURM leaves no time for that afterwards
            time.sleep(self.profile.signal_seconds)
        return status

    def _is_stopped(self) -> bool:
        return self.signal_number != 0

    def _wait_for_child(self, child: ChildProcess) -> int:
        while (status := child.status()) is None and not self._must_leave():
            time.sleep(POLL)
        return -signal.SIGKILL if status is None else status

    def _must_leave(self) -> bool:
        """Whether the rest of the time before SIGKILL is needed to remove Ray and its files."""
        if self.profile.mode != "ray" or time.monotonic() < self.leave_at:
            return False
        if is_ending(os.environ.get("SLURM_JOB_ID", "")):
            return True
        self.leave_at = time.monotonic() + 1.0  # preempted, with time to save
        return False

    def _stop_child(self) -> int | None:
        if self.child is None:
            return None
        self.child.send_signal(signal.SIGTERM)
        shutdown = RAY_SHUTDOWN_SECONDS if self.profile.mode == "ray" else 0
        status = self.child.wait(self.profile.signal_seconds - KEPT - shutdown)
        if status is None:
            _log.warning("the run saved no checkpoint in time: it will resume from the one before")
        self.child.end()
        return status

    def _forward_signal(self, number: int, frame: FrameType | None) -> None:
        if not self.signal_number and number == signal.SIGTERM:
            self.leave_at = time.monotonic() + self.kill_wait - min(CLEANING, self.kill_wait / 2)
        self.signal_number = number
        _log.warning("forwarding %s to the run", signal.Signals(number).name)
        if self.child is not None:
            self.child.send_signal(signal.SIGTERM)

    def _record_exit(self, job_env: JobEnvironment, status: int) -> None:
        why = describe_exit(status) if self.child else "stopped before it began"
        if status == 0 and self.run.tune:  # a training run writes this file itself
            atomic_write_text(Path(self.run.run_dir, FINISHED_FILE), json.dumps({"job": job_env.job}) + "\n")
        if job_env.rank == 0:
            write_exit_record(self.sweep, self.run.run_id, job_env, status, why)
        if status != 0:
            raise RunFailed(f"{self.run.run_id} {why}; its own error is above")


def describe_exit(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "was killed, since it did not stop"
    if status in (0, STOPPED):
        return "finished" if status == 0 else "stopped with a checkpoint"
    return f"ended with status {status}" if status > 0 else f"was killed by {signal.Signals(-status).name}"


@contextmanager
def hold_slot(folder: Path, slots: int, is_needed: Callable[[], bool]) -> Iterator[int | None]:
    """Within the block hold one of the slots. Yields its number, or None once it `is_needed` no more.

    Waits for a free slot. The system releases the slot of a process that dies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    while is_needed():
        for number in range(slots):
            with open_lock(folder / str(number)) as file:
                if _is_locked(file):
                    continue
                yield number
                return
        time.sleep(SLOT_POLL)
    yield None


def _is_locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False
