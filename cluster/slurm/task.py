"""What a job does: run `distcond.train` as a child process and, on the signal, let it write a checkpoint and requeue.

A child, because its exit status and signal handlers are its own: nothing that Ray or submitit installs in one process
disturbs the other, and the child may live in a container where SLURM's programs, which the requeue needs, are not.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from submitit.core.utils import DelayedSubmission

from cluster.slurm.child import POLL, Child
from cluster.slurm.ended import write_end
from cluster.slurm.identify import Run
from cluster.slurm.place import Place, here
from cluster.slurm.profile import EARLY, RAY_KEPT, Profile
from cluster.slurm.ranks import rank_variables
from cluster.slurm.ray_nodes import follow, lead
from cluster.slurm.slots import slot
from cluster.slurm.surroundings import BEGAN, command, surroundings
from distcond.aside import write_text

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
    child: Child | None = None
    around: ExitStack | None = None
    began = math.inf
    told = 0

    def __init__(self, run: Run, profile: Profile, sweep: str, timeouts: int = 0) -> None:
        self.run, self.profile, self.sweep, self.timeouts = run, profile, sweep, timeouts

    def __call__(self) -> None:
        """Run it to its end.

        Raises:
            RunFailed: it did not finish.
        """
        self.began, place = time.time(), here()
        signal.signal(signal.SIGTERM, self._pass_on)
        if place.rank > 0:
            signal.signal(signal.SIGUSR2, self._pass_on)  # submitit's own is for the first task
        if self.profile.mode == "ray" and place.node > 0:
            follow(place, self.profile, Path(self.sweep))
            return
        with ExitStack() as self.around:
            variables = self.around.enter_context(self._around(place))
            status = self._train(variables)
        self._conclude(place, status)

    def checkpoint(self) -> DelayedSubmission | None:
        """The signal has come, in the first task: let the run write its checkpoint; what to requeue, None = nothing."""
        # submitit's `scontrol requeue` is a child of this process: it gets the SIGTERM of its own requeue, and if it
        # dies of that, submitit takes the requeue for failed.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        over, place = self.at_limit(), here()
        self.timeouts += over
        status = self._stop_child()
        if self.around is not None:
            self.around.close()  # once the job is requeued, SLURM leaves no time to clean up
        if status == 0:
            write_end(self.sweep, self.run.run_id, place, 0, "finished")
            sys.exit(0)
        most = self.profile.most_timeouts
        if self.timeouts > most:
            why = f"came to the time limit {self.timeouts} times; `retry` goes on from the last checkpoint"
            write_end(self.sweep, self.run.run_id, place, status, why)
            return None
        why = f"requeued at the time limit ({self.timeouts} of {most})" if over else "requeued"
        write_end(self.sweep, self.run.run_id, place, status, why)
        return DelayedSubmission(Task(self.run, self.profile, self.sweep, self.timeouts))

    def at_limit(self) -> bool:
        """Whether the time limit is the reason for the signal: it may come `EARLY` seconds early."""
        return self._end() - time.time() <= self.profile.signal_seconds + EARLY + 15

    def _end(self) -> float:
        """When the job's time is up, in seconds since 1970: as SLURM says, where it does."""
        told = os.environ.get("SLURM_JOB_END_TIME") if self.profile.executor == "slurm" else None
        return float(told or float(os.environ.get(BEGAN, self.began)) + 60 * self.profile.time_min)

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("run", "profile", "sweep", "timeouts")}

    @contextmanager
    def _around(self, place: Place) -> Iterator[dict[str, str]]:
        """The child's variables, with whatever it needs around it."""
        base = surroundings(self.profile)
        if self.profile.executor == "local":
            with slot(Path(self.sweep) / "slots", max(1, self.profile.parallel), lambda: not self.told):
                yield base
        elif self.profile.mode == "ray":
            with lead(place, self.profile, Path(self.sweep)) as of_ray:
                yield base | of_ray
        else:
            yield base | rank_variables(place, self.profile.tasks_per_node)

    def _train(self, variables: dict[str, str]) -> int:
        """The run's exit status; a task that is told to stop before it has a child gets none."""
        status = STOPPED
        if not self.told:
            # Deaf: some SLURMs send SIGUSR2 to every process of a job, and the run takes a second signal for an order
            # to end at once. It hears SIGTERM from here.
            self.child = Child(command(self.run, self.profile), variables, deaf=True)
            if self.told:  # in between
                self.child.tell(signal.SIGTERM)
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
        self.child.tell(signal.SIGTERM)
        status = self.child.wait(self.profile.signal_seconds - KEPT - (RAY_KEPT if self.profile.mode == "ray" else 0))
        if status is None:
            _log.warning("the run wrote no checkpoint in time: it will go on from the one before")
        self.child.end()
        return status

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.told = number
        _log.warning("passing %s on to the run", signal.Signals(number).name)
        if self.child is not None:
            self.child.tell(signal.SIGTERM)

    def _conclude(self, place: Place, status: int) -> None:
        why = how(status) if self.child else "stopped before it began"
        if status == 0 and self.run.tune:  # a run says so itself
            write_text(Path(self.run.run_dir, "finished.json"), json.dumps({"job": place.job}) + "\n")
        if place.rank == 0:
            write_end(self.sweep, self.run.run_id, place, status, why)
        if status != 0:
            raise RunFailed(f"{self.run.run_id} {why}; its own words are above")


def how(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "was killed, since it did not stop"
    if status in (0, STOPPED):
        return "finished" if status == 0 else "stopped with a checkpoint"
    return f"ended with status {status}" if status > 0 else f"was killed by {signal.Signals(-status).name}"
