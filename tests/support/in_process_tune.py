"""Ray Tune's own controller, search, scheduler and state files, with trainables called in this process: no cluster.

    tune = InProcessTune(folder, search, scheduler, score)
    tune.run(steps=9)                      # a trial's step each; then "kill -9": nothing more is written
    tune = InProcessTune(folder, search, scheduler, score, resume=True)
    tune.run()

A step is an epoch. A paused trial gets a checkpoint with the metrics of its last result.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from ray.train import Checkpoint
from ray.train._internal import storage as storing
from ray.train._internal.session import _TrainingResult
from ray.train._internal.storage import StorageContext
from ray.tune import Trainable
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Experiment, Trial
from ray.tune.logger import JsonLoggerCallback
from ray.tune.registry import register_trainable
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher, SearchGenerator
from ray.tune.tune_config import ResumeConfig

Score = Callable[[Mapping[str, Any], int], float]


class _Controller(TuneController):
    """Without actors: `InProcessTune` calls what they would."""

    def _schedule_trial_pause(self, trial: Trial, should_checkpoint: bool = True) -> None:
        folder = Path(trial.storage.trial_fs_path) / f"checkpoint_{trial.last_result['epoch']:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        trial.on_checkpoint(_TrainingResult(Checkpoint(str(folder)), dict(trial.last_result)))
        self._set_trial_status(trial, Trial.PAUSED)
        self._mark_trial_to_checkpoint(trial)

    def _schedule_trial_train(self, trial: Trial) -> None:
        """Nothing: `InProcessTune.run` calls the next step."""


class InProcessTune:
    """An experiment in `folder`/experiment whose trials' objective after each epoch is `score(config, epoch)`.

    Args:
        folder: where the experiment is stored.
        search: the search of a sweep.
        scheduler: its scheduler.
        score: of a trial's config and epoch; an exception fails the trial.
        epochs: of a whole trial.
        metric: name of the objective.
        at_a_time: trials that run side by side, one epoch each in turn.
        saves_every: epochs between the checkpoints of a trial's own run, at which a restart resumes.
        resume: continue with what is stored.
        filesystem: a pyarrow SubTreeFileSystem, in which `folder` is.

    Attributes:
        steps: taken so far.
        most_running: trials at a time, at most.
        restored: (trial ID, ID of the trial whose checkpoint it was, epoch) of each checkpoint of another trial.
    """

    def __init__(
        self, folder: Path, search: Any, scheduler: TrialScheduler, score: Score, *, epochs: int = 9,
        metric: str = "hypervolume", mode: str = "max", at_a_time: int = 2, saves_every: int = 1, resume: bool = False,
        filesystem: Any = None,
    ) -> None:  # fmt: skip
        root = folder if filesystem is None else Path(filesystem.base_path)
        root.mkdir(parents=True, exist_ok=True)
        session = tempfile.mkdtemp(prefix="session-", dir=root)
        # Of a running Ray: where it puts files before they are stored. A new process has a new one.
        storing._get_ray_train_session_dir = lambda: session
        register_trainable("distcond", Trainable)
        algorithm = SearchGenerator(search.search_alg) if isinstance(search.search_alg, Searcher) else search.search_alg
        algorithm.set_search_properties(metric, mode, search.param_space)
        assert scheduler.set_search_properties(metric, mode)
        spec = Experiment(
            "experiment", "distcond", config=search.param_space, num_samples=search.num_samples,
            storage_path=str(folder), storage_filesystem=filesystem,
        )  # fmt: skip
        algorithm.add_configurations([spec])
        self.score, self.epochs, self.metric, self.at_a_time = score, epochs, metric, at_a_time
        self.saves_every, self.steps, self.most_running = saves_every, 0, 0
        self.restored: list[tuple[str, str, int]] = []
        self.logger = JsonLoggerCallback()
        storage = StorageContext(str(folder), "experiment", storage_filesystem=filesystem)
        with mock.patch.dict(os.environ, TUNE_MAX_PENDING_TRIALS_PG="4"):  # else it asks the cluster for its size
            self.controller = _Controller(
                storage=storage, search_alg=algorithm, scheduler=scheduler, callbacks=[self.logger],
                resume_config=ResumeConfig() if resume else None, trial_checkpoint_config=None,
            )  # fmt: skip

    @property
    def trials(self) -> list[Trial]:
        """Of Ray."""
        return list(self.controller.get_trials())

    @property
    def _search_ended(self) -> bool:
        return bool(self.controller._search_alg.is_finished())

    def run(self, steps: int = 10_000) -> None:
        """Take so many steps, or all, and store the state after each."""
        while self.steps < steps and not self.controller.is_finished():
            self.controller._maybe_update_trial_queue()
            self._start()
            running = [trial for trial in self.trials if trial.status == Trial.RUNNING]
            self.most_running = max(self.most_running, len(running))
            for trial in running:
                self._step(trial)
            self.controller.checkpoint(force=True, wait=True)
            assert running or self.controller.is_finished() or not self._search_ended, "no trial to run"
        for file in self.logger._trial_files.values():
            file.close()
        self.logger._trial_files.clear()

    def _start(self) -> None:
        while sum(trial.status == Trial.RUNNING for trial in self.trials) < self.at_a_time:
            chosen = self.controller._scheduler_alg.choose_trial_to_run(self.controller._wrapped())
            if chosen is None:
                return
            self.controller._set_trial_status(chosen, Trial.PENDING)
            chosen.init_local_path()
            self.controller._callbacks.on_trial_start(iteration=0, trials=self.trials, trial=chosen)
            self.controller._set_trial_status(chosen, Trial.RUNNING)
            latest = chosen.latest_checkpoint_result
            if latest is not None:
                chosen.run_metadata.last_result = dict(latest.metrics)
                if latest.metrics["run_dir"] != chosen.trial_id:
                    self.restored.append((chosen.trial_id, latest.metrics["run_dir"], latest.metrics["epoch"]))

    def _step(self, trial: Trial) -> None:
        self.steps += 1
        epoch = trial.run_metadata.last_result.get("epoch", 0) + 1
        try:
            value = self.score(trial.config, epoch)
        except ArithmeticError as error:
            self.controller._process_trial_failure(trial, error)
            return
        result = {"epoch": epoch, "training_iteration": epoch, self.metric: value, "epochs": self.epochs}
        result["saved_epochs"] = epoch // self.saves_every * self.saves_every
        result |= {"done": epoch >= self.epochs, "train_flops": 10.0 * epoch, "seconds": float(epoch)}
        result |= {"run_dir": f"{trial.trial_id}", "config": trial.config}
        self.controller._on_training_result(trial, result)
