"""EtaEstimator: share of a run that is done and seconds left, from the work of its parts and measured times."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Measurements kept besides the newest. The machine may be shared and its load changes.
RECENT = 9


@dataclass
class EtaEstimator:
    """Estimates in units of work: forward-equivalents of one rank.

    Until a sweep has been measured, its time follows from its work and the speed of training steps.

    Attributes:
        epochs: of the run.
        steps: per epoch.
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
    _epoch_times: list[float] = field(default_factory=list)  # seconds per epoch, newest last
    _sweep_pace: float = 0.0  # measured seconds per unit of work in sweeps

    def begin_stage(self) -> None:
        """Discard measurements of the previous stage: the epochs of the next one cost something else."""
        self._step_times, self._epoch_times = [], []

    def record_steps(self, steps: int, seconds: float) -> None:
        """Record the seconds that `steps` training steps took."""
        self._step_times = [*self._step_times[-RECENT:], (steps, seconds)]

    def record_epoch(self, seconds: float) -> None:
        """Record the seconds of an epoch, checkpoints included, sweeps excluded."""
        self._epoch_times = [*self._epoch_times[-RECENT:], seconds]

    def record_sweep(self, stage: str, share: float, seconds: float) -> None:
        """Record the seconds that a share of the sweep "validate" or "test" took."""
        work = share * (self.validation if stage == "validate" else self.test)
        self._sweep_pace = seconds / work if work and seconds else self._sweep_pace

    def estimate(self, stage: str, epoch: int, step: int, share: float) -> tuple[float, float] | None:
        """Share of the run that is done, in [0, 1], and seconds left; None before the first measurement.

        Args:
            stage: "train", "validate" or "test".
            epoch: completed epochs.
            step: completed steps of the next epoch; all of them during its validation.
            share: of the sweep that is done, for "validate" and "test".
        """
        per_step, per_work = self._seconds_per_step(), self._seconds_per_sweep_work()
        if not per_step and not per_work:
            return None
        total = self.epochs * self.steps * per_step + self._sweeps_left(0) * self.validation * per_work
        total += self.test * per_work
        if stage == "test":
            left = (1 - share) * self.test * per_work
        else:
            validated = share if stage == "validate" else 0.0
            training = (self.epochs - epoch) * self.steps - step
            left = training * per_step + (self._sweeps_left(epoch) - validated) * self.validation * per_work
            left += self.test * per_work
        return (1 - left / total if total else 0.0), left

    def _seconds_per_step(self) -> float:
        """Seconds of a training step, with its share of the epoch's other work."""
        if self._epoch_times:
            return _mean_without_first(self._epoch_times) / self.steps
        return self._seconds_of_steps() or self.step_work * self._sweep_pace

    def _seconds_of_steps(self) -> float:
        # The first measurement includes one-time costs such as compiling or choosing algorithms.
        times = self._step_times[1:] or self._step_times
        steps = sum(steps for steps, _ in times)
        return sum(seconds for _, seconds in times) / steps if steps else 0.0

    def _seconds_per_sweep_work(self) -> float:
        return self._sweep_pace or (self._seconds_of_steps() / self.step_work if self.step_work else 0.0)

    def _sweeps_left(self, done: int) -> int:
        """Validation sweeps left after `done` epochs."""
        if not self.every:
            return int(done < self.epochs)
        return len({*range(self.every, self.epochs + 1, self.every), self.epochs} - set(range(done + 1)))


def _mean_without_first(times: list[float]) -> float:
    """The mean without the first value, which includes one-time costs."""
    times = times[1:] or times
    return sum(times) / len(times)
