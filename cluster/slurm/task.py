"""What submitit calls in each task of a job: train in a child process; on the signal, save a checkpoint and requeue.

A child, because its exit status and signal handlers are its own: nothing that Ray or submitit installs in one process
disturbs the other, and the child may live in a container where SLURM's programs, which the requeue needs, are not.
Local sweeps hold one of `parallel` slots: file locks, which the system releases when a job dies.
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
from cluster.slurm.ray_nodes import start_head, start_worker
from cluster.slurm.runs import Run
from cluster.slurm.sweep import write_exit_record
from distcond.atomic_io import atomic_write_text
from distcond.run_layout import FINISHED_FILE

#: Seconds between two looks.
SLOT_POLL = 0.5


@contextmanager
def slot(folder: Path, places: int, wanted: Callable[[], bool]) -> Iterator[int | None]:
    """Hold one of the places, waiting as long as one is `wanted`, else None; the system takes it from the dead."""
    folder.mkdir(parents=True, exist_ok=True)
    while wanted():
        for number in range(places):
            with open(folder / str(number), "w") as file:
                if _is_taken(file):
                    continue
                yield number
                return
        time.sleep(SLOT_POLL)
    yield None


def _is_taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    return False


#: Exit status of a run that was asked by SIGTERM to stop.
STOPPED = 128 + signal.SIGTERM
#: Seconds of the time before the limit that are kept for requeuing.
KEPT = 8.0
_log = logging.getLogger("submitit")


class RunFailed(Exception):
    """The child did not finish the run."""


class Task:
    """A run as submitit calls it, in each task of the job.

    Args:
        run: what to train.
        profile: how.
        sweep: the sweep directory.
        timeouts: how often this run came to its time limit before.
    """

    # The signal may come before the call does.
    child: ChildProcess | None = None
    resources: ExitStack | None = None
    began = math.inf
    told = 0

    def __init__(self, run: Run, profile: Profile, sweep: str, timeouts: int = 0) -> None:
        self.run, self.profile, self.sweep, self.timeouts = run, profile, sweep, timeouts

    def __call__(self) -> None:
        """Run it to its end.

        Raises:
            RunFailed: it did not finish.
        """
        self.began, place = time.time(), read_job_environment()
        signal.signal(signal.SIGTERM, self._forward_signal)
        if place.rank > 0:
            signal.signal(signal.SIGUSR2, self._forward_signal)  # submitit's own is for the first task
        if self.profile.mode == "ray" and place.node > 0:
            start_worker(place, self.profile, Path(self.sweep))
            return
        with ExitStack() as self.resources:
            variables = self.resources.enter_context(self._resources(place))
            status = self._train(variables)
        self._record_exit(place, status)

    def checkpoint(self) -> DelayedSubmission | None:
        """The signal has come, in the first task: let the run write its checkpoint; what to requeue, None = nothing."""
        # submitit's `scontrol requeue` is a child of this process: it gets the SIGTERM of its own requeue, and if it
        # dies of that, submitit takes the requeue for failed.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        over, place = self.at_limit(), read_job_environment()
        self.timeouts += over
        status = self._stop_child()
        if self.resources is not None:
            self.resources.close()  # once the job is requeued, SLURM leaves no time to clean up
        if status == 0:
            write_exit_record(self.sweep, self.run.run_id, place, 0, "finished")
            sys.exit(0)
        most = self.profile.most_timeouts
        if self.timeouts > most:
            why = f"came to the time limit {self.timeouts} times; `retry` goes on from the last checkpoint"
            write_exit_record(self.sweep, self.run.run_id, place, status, why)
            return None
        why = f"requeued at the time limit ({self.timeouts} of {most})" if over else "requeued"
        write_exit_record(self.sweep, self.run.run_id, place, status, why)
        return DelayedSubmission(Task(self.run, self.profile, self.sweep, self.timeouts))

    def at_limit(self) -> bool:
        """Whether the time limit is the reason for the signal: it may come `SIGNAL_EARLY_SECONDS` seconds early."""
        return self._end() - time.time() <= self.profile.signal_seconds + SIGNAL_EARLY_SECONDS + 15

    def _end(self) -> float:
        """When the job's time is up, in seconds since 1970: as SLURM says, where it does."""
        told = os.environ.get("SLURM_JOB_END_TIME") if self.profile.executor == "slurm" else None
        return float(told or float(os.environ.get(BEGAN_VARIABLE, self.began)) + 60 * self.profile.time_min)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("run", "profile", "sweep", "timeouts")}

    @contextmanager
    def _resources(self, place: JobEnvironment) -> Iterator[dict[str, str]]:
        """The child's variables, with whatever it needs around it."""
        base = child_environment(self.profile)
        if self.profile.executor == "local":
            with slot(Path(self.sweep) / "slots", max(1, self.profile.parallel), lambda: not self.told):
                yield base
        elif self.profile.mode == "ray":
            with start_head(place, self.profile, Path(self.sweep)) as of_ray:
                yield base | of_ray
        else:
            yield base | rank_variables(place, self.profile.tasks_per_node)

    def _train(self, variables: dict[str, str]) -> int:
        """The run's exit status; a task that is told to stop before it has a child gets none."""
        status = STOPPED
        if not self.told:
            # Deaf: some SLURMs send SIGUSR2 to every process of a job, and the run takes a second signal for an order
            # to end at once. It hears SIGTERM from here.
            self.child = ChildProcess(run_command(self.run, self.profile), variables, ignore_sigusr2=True)
            if self.told:  # in between
                self.child.send_signal(signal.SIGTERM)
            try:
                status = self._wait()
            finally:
                self.child.end()
        if status != 0 and self.told and self.profile.executor == "slurm":
            # SLURM is about to end this job. A task that leaves with an error before would end the others, and
            # perhaps the job, which is to be requeued.
            time.sleep(self.profile.signal_seconds)
        return status

    def _wait(self) -> int:
        assert self.child is not None
        while (status := self.child.status()) is None:
            time.sleep(POLL)
        return status

    def _stop_child(self) -> int | None:
        if self.child is None:
            return None
        self.child.send_signal(signal.SIGTERM)
        status = self.child.wait(
            self.profile.signal_seconds - KEPT - (RAY_SHUTDOWN_SECONDS if self.profile.mode == "ray" else 0)
        )
        if status is None:
            _log.warning("the run wrote no checkpoint in time: it will go on from the one before")
        self.child.end()
        return status

    def _forward_signal(self, number: int, frame: FrameType | None) -> None:
        self.told = number
        _log.warning("passing %s on to the run", signal.Signals(number).name)
        if self.child is not None:
            self.child.send_signal(signal.SIGTERM)

    def _record_exit(self, place: JobEnvironment, status: int) -> None:
        why = describe_exit(status) if self.child else "stopped before it began"
        if status == 0 and self.run.tune:  # a run says so itself
            atomic_write_text(Path(self.run.run_dir, FINISHED_FILE), json.dumps({"job": place.job}) + "\n")
        if place.rank == 0:
            write_exit_record(self.sweep, self.run.run_id, place, status, why)
        if status != 0:
            raise RunFailed(f"{self.run.run_id} {why}; its own words are above")


def describe_exit(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "was killed, since it did not stop"
    if status in (0, STOPPED):
        return "finished" if status == 0 else "stopped with a checkpoint"
    return f"ended with status {status}" if status > 0 else f"was killed by {signal.Signals(-status).name}"
