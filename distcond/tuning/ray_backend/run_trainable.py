"""A run of distcond as a trial of Ray Tune: a class Trainable whose steps are epochs."""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import ray
from ray import tune

from distcond.config.overrides import resolve
from distcond.config.run_id import differences
from distcond.config.schema import Config
from distcond.errors import ConfigError, StopRequested
from distcond.launch.ray.messages import get_message, put_message
from distcond.methods.method import Method
from distcond.registry import lookup
from distcond.reporting.run_report import write_report
from distcond.results import history
from distcond.results.history import Record
from distcond.run_layout import (
    CHECKPOINTS_DIR,
    CLASSES_FILE,
    CONFIG_FILE,
    FINISHED_FILE,
    HISTORY_FILE,
    INIT_FROM_FILE,
    LINEAGE_FILE,
    STARTS_FILE,
)
from distcond.runs.attempts import epochs_done
from distcond.runs.checkpoint import latest
from distcond.runs.failures import LaunchFailed, WorkerError, as_driver_error
from distcond.runs.run_dir import RunDir, run_root
from distcond.runs.start import pull_remote_run
from distcond.storage.uri import child_uri, is_uri
from distcond.training.build_trainer import stages_of
from distcond.training.continue_from import continue_from
from distcond.tuning.objective import ends, read_objective, spent, values
from distcond.tuning.ray_backend.hang import watched
from distcond.tuning.ray_backend.training import TrialTraining, make_training, may_succeed_again
from distcond.tuning.trial_config import run_of, settle

#: Files of a run that its Tune checkpoint has besides the network.
_RECORDS = (CONFIG_FILE, STARTS_FILE, CLASSES_FILE, HISTORY_FILE, INIT_FROM_FILE, LINEAGE_FILE, FINISHED_FILE)


@dataclass(frozen=True)
class TrialSpec:
    """What all trials of an experiment have in common.

    Attributes:
        recipe: whose settings hold where nothing else is said.
        settings: of every trial, over the recipe.
        objectives: names of what is reported.
        reference: (SA, RA) above which the hypervolume is counted.
        hang: seconds without progress after which a trial fails.
        sweep: name of the messages of the sweep; "" in a user's own script.
        directory: working directory of the script, in which relative paths are meant.
    """

    recipe: str
    settings: Mapping[str, Any]
    objectives: tuple[str, ...] = ("hypervolume",)
    reference: tuple[float, float] = (0.0, 0.0)
    hang: float = 1800.0
    sweep: str = ""
    directory: str = ""

    def config(self, params: Mapping[str, Any]) -> Config:
        """The config of one trial.

        Raises:
            ConfigError: invalid settings.
        """
        return settle(resolve(self.recipe, {**self.settings, **params}))


class RunTrainable(tune.Trainable):
    """Trains a run up to the next validated epoch at each step, and reports its objectives.

    Epochs that the run directory has already, because the trial was interrupted or its settings were proposed before,
    are reported without being trained again. A class and not a function: functions run in a thread that a scheduler's
    stop never reaches.
    """

    spec: ClassVar[TrialSpec]

    def setup(self, config: dict[str, Any]) -> None:
        """Take up a trial; nothing is built before its first step."""
        self._run: RunDir | None = None
        self._training: TrialTraining | None = None
        if self.spec.sweep:
            logging.getLogger("ray").setLevel(logging.CRITICAL)  # else a line per checkpoint
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Leave the trial of before, and take up another one in the same process."""
        self.cleanup()
        if self.spec.directory and Path(self.spec.directory).is_dir():
            os.chdir(self.spec.directory)  # Tune changes to the directory of each trial
        self._params, self._run = dict(new_config), None
        self._reported = _last_reported_epoch(self._storage) if self._storage is not None else 0
        return True

    def step(self) -> dict[str, Any]:
        """Train up to the next validated epoch.

        Raises:
            ConfigError: the settings of the trial cannot be trained.
            LaunchFailed: the run failed.
        """
        failure = get_message(f"{self.trial_id}/failure")
        if failure is not None:  # a retry of what would fail again
            raise LaunchFailed(failure)
        try:
            with watched(self._run_path, self.spec.hang, self.trial_id, training=self._training is not None):
                record = self._next_record()
        except StopRequested:
            self._wait_for_the_end()
        except WorkerError as error:
            raise self._failed(as_driver_error(error), error.kind not in ("config", "deterministic")) from None
        except Exception as error:
            raise self._failed(error, not isinstance(error, ConfigError) and may_succeed_again(error)) from None
        self._reported = int(record["epoch"])
        return self._result(record)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Copy what `distcond.load` needs: the settings, and the latest and the best checkpoint of the run."""
        if self._training is not None:
            self._training.save()
        if self._run is None:
            return
        for name in _RECORDS:
            if (self._run.path / name).exists():
                shutil.copy2(self._run.path / name, checkpoint_dir)
        if self._run.checkpoints.is_dir():
            shutil.copytree(self._run.checkpoints, Path(checkpoint_dir) / CHECKPOINTS_DIR, dirs_exist_ok=True)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Resume the run of a checkpoint of this trial; or continue from that of another one, with own settings."""
        saved, config = RunDir(Path(checkpoint)), self.spec.config(self._params)
        if not (saved.path / CONFIG_FILE).exists():  # saved before the trial had begun its run
            return
        name = json.loads((saved.path / CONFIG_FILE).read_text(encoding="utf-8"))["run_id"]
        if differences(saved.config(), config):
            self._run = continue_from(config, saved.path, epochs_done(saved.path), self.trial_id, name)
            return
        self._run = RunDir(run_root(config) / name)
        if latest(self._run.checkpoints) is None and not is_uri(config.run_root):  # the directory was lost
            shutil.copytree(saved.path, self._run.path, dirs_exist_ok=True)

    def cleanup(self) -> None:
        """Release the run."""
        self._close("ended by the sweep", failed=False)

    def _close(self, why: str, failed: bool) -> None:
        training, self._training = self._training, None
        if training is not None and self._run is not None:
            training.close()
            self._run.record_end(why, failed)

    def _next_record(self) -> Record:
        """The first validated epoch after the last reported one, trained if need be."""
        config = self._config = self._open()
        assert self._run is not None
        done = epochs_done(self._run.path) if self._training is None else self._reported
        while True:
            # Epochs without a checkpoint are trained again, so they do not count yet.
            known = [record for record in history.read(self._run.path) if record["epoch"] <= done or self._run.finished]
            validated = [record for record in known if record.get("val")]
            later = [record for record in validated if record["epoch"] > self._reported]
            if later or (self._run.finished and validated):
                return (later or validated[-1:])[0]
            if self._run.finished:
                raise ConfigError("eval.every: the run validated nothing, so there is no objective")
            if self._training is None:
                self._training = self._begin(config)
            done = self._training.train_epoch()
            if self._run.finished:
                write_report(self._run.path)

    def _open(self) -> Config:
        """The config of the trial; finds its run, unless `load_checkpoint` has."""
        config = self.spec.config(self._params)
        if self._run is None:
            self._run = run_of(config)
        if self._training is None:
            if not self._run.finished:
                # Reported epochs without a checkpoint are trained, and reported, again.
                self._reported = min(self._reported, epochs_done(self._run.path))
            put_message(f"{self.trial_id}/run", str(self._run.path))
            self._remote = pull_remote_run(config, self._run)
        return self._run.continued(config)

    def _begin(self, config: Config) -> TrialTraining:
        assert self._run is not None
        resources = self.trial_resources
        threads = int(resources.head_cpus) if resources is not None else 0
        gpu = bool(ray.get_gpu_ids()) if ray.is_initialized() else True  # without Ray, as launch.device says
        return make_training(
            config, self._run, self._remote, threads or config.launch.cpus_per_worker, gpu, self._stop_requested
        )

    def _result(self, record: Record) -> dict[str, Any]:
        """The metrics of an epoch, all by the checkpoint that the run keeps so far."""
        assert self._run is not None
        records = [one for one in history.read(self._run.path) if one["epoch"] <= record["epoch"]]
        objectives = [read_objective(name, self._config) for name in self.spec.objectives]
        flops, seconds = spent(records)
        sa, ra = ends(records)
        result = {"epoch": record["epoch"], "training_iteration": record["epoch"], "sa": sa, "ra": ra}
        result |= {"train_flops": flops, "seconds": seconds, "run_dir": self._place()}
        result |= {"epochs": total_epochs(self._config), "saved_epochs": epochs_done(self._run.path)}
        result |= dict(zip(self.spec.objectives, values(objectives, records, self.spec.reference), strict=True))
        last = max(one["epoch"] for one in history.read(self._run.path) if one.get("val"))
        return result | {"done": self._run.finished and record["epoch"] == last}

    def _run_path(self) -> Path | None:
        return self._run.path if self._run is not None else None

    def _place(self) -> str:
        assert self._run is not None
        root = self._config.run_root
        return child_uri(root, self._run.name) if is_uri(root) else str(self._run.path)

    def _stop_requested(self) -> bool:
        return bool(self.spec.sweep) and get_message(f"{self.spec.sweep}/stop") is not None

    def _wait_for_the_end(self) -> None:
        """Tell the sweep that the run has saved its checkpoint, and report nothing more: the sweep ends this process.

        A result, or an error, would make Tune decide about the trial.
        """
        self.cleanup()
        put_message(f"{self.spec.sweep}/stopped/{self.trial_id}", "yes")
        while True:
            time.sleep(3600)

    def _failed(self, error: Exception, again: bool) -> Exception:
        """The error to raise. One that would come again is noted, since Tune retries any."""
        with suppress(Exception):
            self._close(str(error), failed=True)
        if not again:
            put_message(f"{self.trial_id}/failure", str(error))
        return error


def total_epochs(config: Config) -> int:
    """Epochs of a whole run, at most."""
    method: Method = lookup("method", config.method.name)
    return sum(stage.epochs for stage in stages_of(config, method))


def _last_reported_epoch(storage: Any) -> int:
    """The last epoch in the results of this trial, where the experiment lies; 0 without any."""
    try:
        with storage.storage_filesystem.open_input_stream(f"{storage.trial_fs_path}/result.json") as file:
            lines = file.readall().decode().splitlines()
    except (OSError, RuntimeError):
        return 0
    epochs = [0]
    for line in lines:
        with suppress(ValueError):  # the last one may have been cut off
            epochs.append(int(json.loads(line)["epoch"]))
    return max(epochs)
