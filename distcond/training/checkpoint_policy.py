"""When a run saves within an epoch and when it stops, decided alike on every rank; and its epoch limit.

Ranks that agree at every step would wait for each other at every step. They agree about once a second instead, by one
small reduction on the CPU, of which the device learns nothing; how many steps that is they agree on, too.
A run may be trained in segments: up to so many epochs now, from that checkpoint later, or never.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from distcond.atomic_io import read_json, write_json
from distcond.distributed.world import World
from distcond.run_layout import EPOCH_LIMIT_FILE
from distcond.runs.checkpoint import latest, step_of
from distcond.runs.run_dir import RunDir

#: Seconds between two questions.
INTERVAL = 1.0


class StopRequested(Exception):
    """The run was asked to stop; every rank raises it at the same place."""


class CheckpointPolicy:
    """Says when to save; raises Stop when asked to.

    Args:
        world: the ranks that have to agree.
        steps: save every so many steps of the run; 0 = not by steps.
        minutes: save when the last save is so long ago; 0 = not by time.
        stop: whether this rank was asked to stop; cheap, called about once a second.
    """

    def __init__(self, world: World, steps: int, minutes: float, stop: Callable[[], bool]) -> None:
        self.world, self.steps, self.seconds, self.stop = world, steps, 60 * minutes, stop
        self.due_at_epoch_end = False  # a save by steps that fell on the end of an epoch
        self._saved = self._asked = time.monotonic()
        self._since, self._every = 0, 1  # steps since the last question, steps between two

    def after_step(self, step: int, last: bool) -> bool:
        """Whether to save now, after update number `step` of the run, counted from 1; `last` = of its epoch.

        Raises:
            Stop: to stop here, after a save.
        """
        by_steps = self.steps > 0 and step % self.steps == 0
        self.due_at_epoch_end |= by_steps and last
        self._since += 1
        by_time = self._since >= self._every and self._ask()
        return by_time or (by_steps and not last)

    def between(self) -> bool:
        """Ask outside of training, where every rank comes by: whether a save is due by the clock.

        Raises:
            Stop: to stop here.
        """
        return self._ask()

    def saved(self) -> None:
        """A checkpoint of now exists."""
        self.due_at_epoch_end, self._saved = False, time.monotonic()

    def _ask(self) -> bool:
        now = time.monotonic()
        pace = self._since * INTERVAL / max(now - self._asked, 1e-3)
        due = 0 < self.seconds <= now - self._saved
        wanted = self.world.all_reduce_max([float(self.stop()), float(due), pace])
        # Slowly up: the first steps may be all there is to go by, and a device may run behind its host.
        self._since, self._every, self._asked = 0, max(1, min(2 * self._every, int(wanted[2]))), now
        if wanted[0]:
            raise StopRequested
        return bool(wanted[1])


def never_stop() -> bool:
    """Nobody asks to stop."""
    return False


def set_epoch_limit(run_path: Path, until: int) -> None:
    """Let the next start of the run end, with a checkpoint, after `until` epochs in all; 0 = with the run."""
    write_json(run_path / EPOCH_LIMIT_FILE, {"until": until})


def epoch_limit_reached(run_path: Path, done: int) -> bool:
    """Whether a run that has done so many epochs pauses here: on every rank, since all see the file."""
    file = run_path / EPOCH_LIMIT_FILE
    until: int = read_json(file)["until"] if file.exists() else 0
    return 0 < until <= done


def epochs_done(run_path: Path) -> int:
    """Whole epochs at the run's newest checkpoint; 0 before the first."""
    last = latest(RunDir(run_path).checkpoints)
    return step_of(last).epoch if last is not None else 0
