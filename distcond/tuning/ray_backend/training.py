"""How a trial trains its run, epoch by epoch: in its own process, or with Ray Train workers of its own."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import torch

from distcond.config.schema import Config
from distcond.distributed.world import World, choose_device
from distcond.errors import StopRequested
from distcond.launch.ray.cluster import ray_cluster
from distcond.launch.ray.messages import EpochGate
from distcond.launch.ray.placement_group import release_placement_group
from distcond.launch.ray.worker import read_probe
from distcond.launch.stopping import RunStopped, clear_stop_request, request_stop
from distcond.results import history
from distcond.runs.attempts import begin_attempt, last_attempt
from distcond.runs.failures import LaunchFailed, capture_worker_error
from distcond.runs.remote import RemoteRun
from distcond.runs.run_dir import RunDir
from distcond.runs.start import published
from distcond.training.fit import Training, begin_training

#: Seconds between two looks at a run on other workers.
POLL_SECONDS = 0.2

#: Seconds to wait for a run that another process still holds: one that was killed a moment ago.
PATIENCE = 60.0


class TrialTraining(Protocol):
    """One start of a trial's run."""

    def train_epoch(self) -> int:
        """Train one epoch, the last one with the final evaluation. Returns the number of completed epochs.

        Raises:
            StopRequested: the sweep was asked to stop; a checkpoint was saved.
        """

    def save(self) -> None:
        """Make sure that there is a checkpoint after the last completed epoch."""

    def close(self) -> None:
        """Release the run, and everything it uses."""


class InProcessTraining:
    """A run of one worker in this process.

    The directory is locked during an epoch only: Tune may keep the process of a paused trial while another one resumes
    the trial. If another process has worked on the run meanwhile, `train_epoch` resumes from what that left.

    Args:
        config: the run.
        run: its directory.
        remote: the run at its URI.
        threads: of torch.
        gpu: whether the trial was given a GPU.
        stop: whether the sweep was asked to stop.
    """

    def __init__(
        self, config: Config, run: RunDir, remote: RemoteRun | None, threads: int, gpu: bool, stop: Callable[[], bool]
    ) -> None:
        self.config, self.run, self.remote, self.stop = config, run, remote, stop
        self.threads, self.device = threads, config.launch.device if gpu else "cpu"
        self._epochs: Iterator[int] | None = None
        self._training: Training | None = None
        self._attempt: int | None = None

    def train_epoch(self) -> int:
        """See `TrialTraining`."""
        with self.run.lock(PATIENCE):
            if self._attempt is None or last_attempt(self.run.path) != self._attempt:
                self._drop()
                self._epochs = self._begin()
            assert self._epochs is not None
            return next(self._epochs)

    def save(self) -> None:
        """See `TrialTraining`."""
        if self._training is not None and not self._training.trainer.trained:
            with self.run.lock():
                if last_attempt(self.run.path) == self._attempt:
                    self._training.save()

    def close(self) -> None:
        """See `TrialTraining`."""
        self._drop()
        if self.device != "cpu" and torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _drop(self) -> None:
        epochs, self._epochs, self._training, self._attempt = self._epochs, None, None, None
        if epochs is not None:
            epochs.close()  # type: ignore[attr-defined]

    def _begin(self) -> Iterator[int]:
        torch.set_num_threads(self.threads)
        world = World(device=choose_device(self.device))
        with published(self.run.recorded_start(self.config), self.remote) as base:
            _, attempt = begin_attempt(world, self.run.path, base, self.remote)
            stopped = False
            with (
                capture_worker_error(self.run.path, 0, attempt),
                begin_training(self.config, world, self.run.path, attempt, self.stop) as training,
            ):
                self._training, self._attempt = training, attempt
                try:
                    yield from training.epochs()
                except StopRequested:  # no error to capture
                    stopped = True
            if stopped:
                raise StopRequested


class WorkersTraining:
    """A run of several Ray Train workers. They wait after each epoch until the next `train_epoch`.

    Args:
        config: the run.
        run: its directory, locked from the first `train_epoch` to `save` or `close`.
        remote: the run at its URI.
        stop: whether the sweep was asked to stop.
    """

    def __init__(self, config: Config, run: RunDir, remote: RemoteRun | None, stop: Callable[[], bool]) -> None:
        self.config, self.run, self.remote, self.stop = config, run, remote, stop
        self.gate = EpochGate(secrets.token_hex(8))
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def train_epoch(self) -> int:
        """See `TrialTraining`."""
        until = self._recorded() + 1
        self.gate.open_until(until)
        if self._thread is None:
            release_placement_group(self.run.path)
            self._error = None
            self._thread = threading.Thread(target=self._train, name="train", daemon=True)
            self._thread.start()
        while self._thread.is_alive() and self.gate.waiting_after() < until:
            if self.stop():
                self._end()
                raise StopRequested
            self._thread.join(POLL_SECONDS)
        if not self._thread.is_alive():
            self._thread = None
            if self._error is not None:
                raise self._error
        return self._recorded()

    def save(self) -> None:
        """See `TrialTraining`. The workers end: a trial that is saved is about to pause or to end."""
        self._end()

    def close(self) -> None:
        """See `TrialTraining`."""
        self._end()
        self.gate.forget()

    def _end(self) -> None:
        """Ask the workers to save a checkpoint and end, and wait for them for the grace period."""
        deadline = time.monotonic() + self.config.launch.grace
        while self._thread is not None and self._thread.is_alive() and time.monotonic() < deadline:
            if probe := read_probe(self.run.path):
                with suppress(OSError):  # tried again
                    request_stop(self.run.path, probe)
            self._thread.join(POLL_SECONDS)
        release_placement_group(self.run.path)
        self._thread = None

    def _recorded(self) -> int:
        records = history.read(self.run.path)
        return int(records[-1]["epoch"]) if records else 0

    def _train(self) -> None:
        # Imported only here: Ray Train reads its settings from the environment when it is imported.
        with ray_cluster() as ray:
            from distcond.launch.ray.trainer import train_on_ray

            try:
                clear_stop_request(self.run.path)
                with published(self.run.begin(self.config, PATIENCE), self.remote) as attempt:
                    train_on_ray(self.config, self.run.path, attempt, replace(ray, own=False), self.gate.name)
            except RunStopped:
                pass  # asked for by `_end`
            except Exception as error:
                self._error = error


def make_training(
    config: Config, run: RunDir, remote: RemoteRun | None, threads: int, gpu: bool, stop: Callable[[], bool]
) -> TrialTraining:
    """The training of a trial: with one worker in this process."""
    if config.launch.workers == 1:
        return InProcessTraining(config, run, remote, threads, gpu, stop)
    return WorkersTraining(config, run, remote, stop)


def may_succeed_again(error: Exception) -> bool:
    """Whether another try of the trial may go well: its workers failed, or never started, by no fault of the run's."""
    from distcond.launch.ray.errors import raised_by_workers

    return isinstance(error, LaunchFailed) and not raised_by_workers(error.__cause__)
