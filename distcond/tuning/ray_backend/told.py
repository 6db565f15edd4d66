"""What is said while a sweep goes on: a line per leg, and on a terminal a bar over the trials."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from distcond.tuning.course import Course
from distcond.tuning.objective import Objective
from distcond.tuning.trial import Leg

_log = logging.getLogger(__name__)


class Told:
    """Called with each leg that is over."""

    def __init__(self, course: Course, objectives: Sequence[Objective]) -> None:
        self.course, self.objectives, self.bar = course, objectives, _bar(course.count)

    def __call__(self, leg: Leg) -> None:
        trial = self.course.trials[leg.number]
        names = [f"{one.name} {value:.4g}" for one, value in zip(self.objectives, trial.values, strict=False)]
        what = f"{trial.state} after epoch {trial.epochs}: {', '.join(names)}" if names else trial.state
        line = f"trial {trial.number} of {self.course.count} {f'failed: {trial.error}' if trial.error else what}"
        if self.bar is None:
            _log.info(line)
            return
        self.bar.write(line, file=sys.stderr)
        # A trial that was stopped may still be promoted; it counts as soon as it has been compared.
        self.bar.total = self.course.count
        self.bar.n = sum(t.state in ("stopped", "finished", "failed") for t in self.course.trials.values())
        self.bar.refresh()

    def __enter__(self) -> Told:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()


def _bar(trials: int) -> Any:
    if not sys.stderr.isatty():
        return None
    try:
        from tqdm import tqdm
    except ImportError:
        return None
    return tqdm(total=trials, unit="trial", file=sys.stderr, dynamic_ncols=True, leave=False)
