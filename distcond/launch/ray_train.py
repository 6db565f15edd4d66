"""One run on Ray Train. Ray gives placement and restarts; metrics, checkpoints and resuming are the run's own."""

from __future__ import annotations

import dataclasses
import math
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ray.train.torch import TorchConfig
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.torch.torch_trainer import TorchTrainer

from distcond.config.overrides import to_settings
from distcond.config.schema import Config
from distcond.engine.leg import epochs_done, leg_over
from distcond.engine.run_dir import RunDir
from distcond.launch.attempt import next_attempt
from distcond.launch.capacity import number_of_workers, on_gpu
from distcond.launch.failure import FOLDER, LaunchFailed, Stopped
from distcond.launch.ray_cluster import Cluster
from distcond.launch.ray_verdict import StopRepeating, verdict
from distcond.launch.signals import asked_to_stop, beside
from distcond.launch.stop_file import ask
from distcond.launch.stopped import where
from distcond.launch.train_loop import Order, train_loop
from distcond.launch.variables import variables

#: Seconds to wait for free workers before asking again.
START_SECONDS = 60.0


class Trainer(TorchTrainer):
    """TorchTrainer without those of its actors that a run has no use for: each costs a process and seconds to start."""

    without: tuple[str, ...] = ()

    def _create_default_callbacks(self) -> list[Any]:
        return [made for made in super()._create_default_callbacks() if type(made).__name__ not in self.without]


def train(config: Config, run_path: Path, attempt: int, ray: Cluster) -> None:
    """Run `config` to its end on the cluster.

    Raises:
        ConfigError: the cluster cannot hold it, or a worker found a mistake of the user's.
        LaunchFailed: it did not finish.
        Stopped: it was asked to.
    """
    workers = number_of_workers(config.launch, ray.capacity)
    trainer = _trainer(config, run_path, attempt, ray, workers)
    timeout, first = config.launch.timeout, next_attempt(run_path, attempt)
    waits = {
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(timeout),
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(min(timeout, START_SECONDS)),
    }
    try:
        with variables(waits), asked_to_stop(partial(ask, run_path), config.launch.grace) as request:
            beside(trainer.fit)
    except Exception as error:
        raise verdict(error, max(0, next_attempt(run_path, attempt) - first - 1), _keep_logs(ray, run_path)) from error
    finally:
        shutil.rmtree(_storage(run_path), ignore_errors=True)
    if request and not RunDir(run_path).finished:
        raise Stopped(where(run_path), request.status)
    if not RunDir(run_path).finished and not leg_over(run_path, epochs_done(run_path)):
        raise LaunchFailed(f"Ray Train ended without an error, but {run_path} is not finished")


def _trainer(config: Config, run_path: Path, attempt: int, ray: Cluster, workers: int) -> Trainer:
    launch, gpu = config.launch, on_gpu(config.launch, ray.capacity)
    resources = {"CPU": float(launch.cpus_per_worker)} | ({"GPU": 1.0} if gpu else {})
    tries = 1 if ray.own else math.ceil(launch.timeout / START_SECONDS)
    trainer = Trainer(
        train_loop,
        train_loop_config=Order(to_settings(_with_full_paths(config)), str(run_path), attempt, gpu).as_dict(),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo", timeout_s=math.ceil(launch.timeout)),
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpu, resources_per_worker=resources),
        run_config=RunConfig(
            name=f"attempt-{attempt}",
            storage_path=str(_storage(run_path)),
            failure_config=FailureConfig(max_failures=launch.max_failures, controller_failure_limit=tries),
            callbacks=[StopRepeating()],
            logging_config=LoggingConfig(log_level="CRITICAL"),
        ),
    )
    # No Ray Data here. The cleaner is for clusters that outlive a driver, and it works through the dashboard.
    trainer.without = ("DatasetsCallback", *(() if ray.dashboard else ("PlacementGroupCleanerCallback",)))
    return trainer


def _keep_logs(ray: Cluster, run_path: Path) -> Path | None:
    """Where the log files of a Ray of one's own lie once it is gone."""
    if ray.logs is None:
        return None
    kept = run_path / FOLDER / "ray-logs"
    with suppress(OSError):
        shutil.copytree(ray.logs, kept, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    return kept


def _storage(run_path: Path) -> Path:
    """Where Ray Train keeps what nobody reads: a mark that it can write."""
    return run_path / ".ray"


def _with_full_paths(config: Config) -> Config:
    """Workers may stand in another directory, and `~` may be another one for them."""
    data = config.data
    full = dataclasses.replace(
        data, root=_full(data.root), cache_dir=_full(data.cache_dir), extra=_full(data.extra)
    )  # fmt: skip
    return dataclasses.replace(config, init_from=_full(config.init_from), data=full)


def _full(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""
