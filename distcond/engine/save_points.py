"""When a run saves between the ends of epochs, and when it stops: decided alike on every rank.

Ranks that ask each other at every step would wait for each other at every step. They ask about once a second instead,
by one small reduction on the CPU, of which the device learns nothing; how many steps that is they agree on, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from distcond.engine.world import World

#: Seconds between two questions.
INTERVAL = 1.0


class Stop(Exception):
    """The run was asked to stop; every rank raises it at the same place."""


class SavePoints:
    """Says when to save; raises Stop when asked to.

    Args:
        world: the ranks that have to agree.
        steps: save every so many steps of the run; 0 = not by steps.
        minutes: save when the last save is so long ago; 0 = not by time.
        stop: whether this rank was asked to stop; cheap, called about once a second.
    """

    def __init__(self, world: World, steps: int, minutes: float, stop: Callable[[], bool]) -> None:
        self.world, self.steps, self.seconds, self.stop = world, steps, 60 * minutes, stop
        self.owed = False  # a save by steps that fell on the end of an epoch
        self._saved = self._asked = time.monotonic()
        self._since, self._every = 0, 1  # steps since the last question, steps between two

    def after_step(self, step: int, last: bool) -> bool:
        """Whether to save now, after update number `step` of the run, counted from 1; `last` = of its epoch.

        Raises:
            Stop: to stop here, after a save.
        """
        by_steps = self.steps > 0 and step % self.steps == 0
        self.owed |= by_steps and last
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
        self.owed, self._saved = False, time.monotonic()

    def _ask(self) -> bool:
        now = time.monotonic()
        pace = self._since * INTERVAL / max(now - self._asked, 1e-3)
        due = 0 < self.seconds <= now - self._saved
        wanted = self.world.largest([float(self.stop()), float(due), pace])
        # Slowly up: the first steps may be all there is to go by, and a device may run behind its host.
        self._since, self._every, self._asked = 0, max(1, min(2 * self._every, int(wanted[2]))), now
        if wanted[0]:
            raise Stop
        return bool(wanted[1])


def never() -> bool:
    """Nobody asks to stop."""
    return False
