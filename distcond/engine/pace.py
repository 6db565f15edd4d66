"""How much of a run is done and how long the rest takes, from what its parts cost and what has been measured so far."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Pace:
    """Work is counted in forward-equivalents of one rank; a sweep is timed by its work until one has been measured.

    Attributes:
        epochs: of the run.
        steps: of an epoch.
        every: epochs between validation sweeps; 0 = only at the end.
        validation: work of one validation sweep.
        test: work of the final sweeps.
        step_work: work of a training step.
    """

    epochs: int
    steps: int
    every: int = 0
    validation: float = 0.0
    test: float = 0.0
    step_work: float = 0.0
    _step_seconds: float = 0.0
    _sweep_pace: float = 0.0  # seconds per unit of work in sweeps, as measured

    def trained(self, steps: int, seconds: float) -> None:
        """So many steps took so long."""
        found = seconds / steps
        # Recent steps count more: a machine may be shared.
        self._step_seconds = found if not self._step_seconds else 0.9 * self._step_seconds + 0.1 * found

    def swept(self, stage: str, share: float, seconds: float) -> None:
        """A share of a sweep ("validate" or "test") took so long."""
        work = share * (self.validation if stage == "validate" else self.test)
        self._sweep_pace = seconds / work if work and seconds else self._sweep_pace

    def left(self, stage: str, epoch: int, step: int, share: float) -> tuple[float, float] | None:
        """Share of the run that is done, in [0, 1], and seconds for the rest; None before anything was measured.

        Args:
            stage: "train", "validate" or "test".
            epoch: epochs done.
            step: steps done of the next one; all of them while its validation goes on.
            share: of the stage that is done, for "validate" and "test".
        """
        each, sweep = self._each(), self._sweep_each()
        if not each and not sweep:
            return None
        whole = self.epochs * self.steps * each + self._sweeps(0) * self.validation * sweep + self.test * sweep
        if stage == "test":
            rest = (1 - share) * self.test * sweep
        else:
            begun = share if stage == "validate" else 0.0
            training = (self.epochs - epoch) * self.steps - step
            rest = training * each + (self._sweeps(epoch) - begun) * self.validation * sweep + self.test * sweep
        return (1 - rest / whole if whole else 0.0), rest

    def _each(self) -> float:
        """Seconds of a training step."""
        return self._step_seconds or self.step_work * self._sweep_pace

    def _sweep_each(self) -> float:
        """Seconds per unit of work in a sweep."""
        return self._sweep_pace or (self._step_seconds / self.step_work if self.step_work else 0.0)

    def _sweeps(self, done: int) -> int:
        """Validation sweeps to come after so many epochs."""
        if not self.every:
            return int(done < self.epochs)
        return len({*range(self.every, self.epochs + 1, self.every), self.epochs} - set(range(done + 1)))
