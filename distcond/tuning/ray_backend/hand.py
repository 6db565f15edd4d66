"""Ray Tune's way to ask what to run next: a search algorithm that hands out the legs of a course."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from ray.tune import Callback
from ray.tune.search import Searcher

from distcond.launch.ray.placement_group import release_placement_group
from distcond.tuning.course import Course
from distcond.tuning.trial import Leg, outcome_of


class Halt(Callback):
    """Lets another thread end Ray Tune, between two of its steps.

    Args:
        step: called before each of them.
    """

    #: Seconds that the other thread waits for that.
    PATIENCE = 10.0

    def __init__(self, step: Callable[[], None]) -> None:
        self.step, self.wanted, self.over = step, False, threading.Event()

    def now(self) -> None:
        """End it, unless it has ended."""
        self.wanted = True
        self.over.wait(self.PATIENCE)

    def noted(self, work: Callable[[], Any]) -> None:
        """Do what may be ended."""
        try:
            work()
        finally:
            self.over.set()

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Raise, if that is wanted."""
        if self.wanted:
            raise RuntimeError("stopped")
        self.step()

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune keeps its callbacks in a file; an event cannot lie there."""
        return {}


class Hand(Searcher):
    """Every leg is a trial of Ray Tune's; it ends by itself. What comes next is decided by the course.

    Args:
        course: the course of the sweep.
        order: what a leg is told, as plain values.
        said: called with each leg that is over.
    """

    def __init__(self, course: Course, order: Callable[[Leg], dict[str, Any]], said: Callable[[Leg], None]) -> None:
        super().__init__(metric="epoch", mode="max")
        self.course, self.order, self.said = course, order, said
        self.legs: dict[str, Leg] = {}
        self.outcomes: dict[str, str] = {}

    def suggest(self, trial_id: str) -> Any:
        """The next leg; None = ask again later."""
        leg = self.course.next()
        if leg is None:
            return None if self.course.running else Searcher.FINISHED
        self.legs[trial_id] = leg
        return self.order(leg)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """An epoch is over, or, with an outcome, the leg."""
        if "outcome" in result:
            self.outcomes[trial_id] = result["outcome"]

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A leg is over, or its process is gone."""
        leg = self.legs.pop(trial_id)
        release_placement_group(self.course.sweep.path / self.course.trials[leg.number].run)
        told = self.outcomes.pop(trial_id, None)
        if told is None:
            self.course.died(leg, "the process of the trial died")
        else:
            self.course.ended(leg, outcome_of(json.loads(told)))
        self.said(leg)

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """The space is the course's."""
        return True

    def save(self, checkpoint_path: str) -> None:
        """The sweep's own files hold it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: a sweep goes on from its own files."""
