"""EtaEstimator: the share of a run that is done and the seconds left, from what its parts cost and measured times."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Measurements that count, besides the newest: a machine may be shared, and its first ones are slow.
RECENT = 9


@dataclass
class EtaEstimator:
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
    _step_times: list[tuple[int, float]] = field(default_factory=list)  # steps and seconds, newest last
    _epoch_times: list[float] = field(default_factory=list)  # seconds of whole epochs, newest last
    _sweep_pace: float = 0.0  # seconds per unit of work in sweeps, as measured

    def record_steps(self, steps: int, seconds: float) -> None:
        """So many steps took so long."""
        self._step_times = [*self._step_times[-RECENT:], (steps, seconds)]

    def epoch(self, seconds: float) -> None:
        """A whole epoch took so long with its checkpoint and all else that comes between steps, but for sweeps."""
        self._epoch_times = [*self._epoch_times[-RECENT:], seconds]

    def begin_stage(self) -> None:
        """What was measured says nothing any more about the epochs to come."""
        self._step_times, self._epoch_times = [], []

    def record_sweep(self, stage: str, share: float, seconds: float) -> None:
        """A share of a sweep ("validate" or "test") took so long."""
        work = share * (self.validation if stage == "validate" else self.test)
        self._sweep_pace = seconds / work if work and seconds else self._sweep_pace

    def estimate(self, stage: str, epoch: int, step: int, share: float) -> tuple[float, float] | None:
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
        """Seconds of a training step, with its part of what an epoch takes besides."""
        if self._epoch_times:
            return _mean(self._epoch_times) / self.steps
        return self._step_seconds() or self.step_work * self._sweep_pace

    def _step_seconds(self) -> float:
        # The first holds what happens once, such as compiling or choosing algorithms.
        times = self._step_times[1:] or self._step_times
        steps = sum(steps for steps, _ in times)
        return sum(seconds for _, seconds in times) / steps if steps else 0.0

    def _sweep_each(self) -> float:
        """Seconds per unit of work in a sweep."""
        return self._sweep_pace or (self._step_seconds() / self.step_work if self.step_work else 0.0)

    def _sweeps(self, done: int) -> int:
        """Validation sweeps to come after so many epochs."""
        if not self.every:
            return int(done < self.epochs)
        return len({*range(self.every, self.epochs + 1, self.every), self.epochs} - set(range(done + 1)))


def _mean(times: list[float]) -> float:
    """Of the epochs, but for the first, in which things happen that happen once."""
    times = times[1:] or times
    return sum(times) / len(times)
