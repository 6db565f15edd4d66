"""One run on Ray Train: Ray gives placement and restarts; metrics, checkpoints and resuming are the run's own."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from ray.runtime_context import get_runtime_context
from ray.train.torch import TorchConfig
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2.api.config import FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.v2.torch.torch_trainer import TorchTrainer

from distcond.config.overrides import to_settings
from distcond.config.schema import Config, LaunchConfig
from distcond.errors import ConfigError
from distcond.launch.capacity import on_gpu, range_of_workers
from distcond.launch.ray.cluster import Cluster
from distcond.launch.ray.errors import FailFastCallback, translate_ray_error
from distcond.launch.ray.gpu import GpuConfig
from distcond.launch.ray.local_auth import env_vars
from distcond.launch.ray.placement_group import PlacementGroupRecorder, placement_group_file
from distcond.launch.ray.worker import WorkerSpec, read_probe, shared_dir_probe, train_loop
from distcond.launch.stopping import (
    describe_last_checkpoint,
    forward_stop_request,
    graceful_stop,
    request_stop,
    run_in_thread,
    stop_requested,
)
from distcond.run_layout import FAILURES_DIR
from distcond.runs.attempts import next_attempt
from distcond.runs.failures import LaunchFailed, RunStopped
from distcond.runs.remote import remote_run_of
from distcond.runs.run_dir import RunDir
from distcond.training.checkpoint_policy import epoch_limit_reached, epochs_done


class FixedPolicyWithoutAutoscaler(FixedScalingPolicy):
    """Asks no autoscaler for resources: that would be a process more, which the workers' start waits for."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Nothing is registered, so that there is nothing to cancel either."""

    def _maybe_send_resource_request(self) -> None:
        """Nobody would hear it."""


#: Seconds to wait for free workers before asking again.
START_SECONDS = 60.0
ELASTIC_START_SECONDS = 15.0

#: Seconds between two looks at whether a cluster has room for more workers.
RESIZE_SECONDS = 60.0


class RayTrainer(TorchTrainer):
    """TorchTrainer without those of its actors that a run has no use for: each costs a process and seconds to start."""

    without: tuple[str, ...] = ()
    patience: float = math.inf  # seconds without room for the fewest workers
    alone: bool = False  # on a Ray that has no autoscaler

    def _create_default_callbacks(self) -> list[Any]:
        return [made for made in super()._create_default_callbacks() if type(made).__name__ not in self.without]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        scaling: Any = self.scaling_config  # its own annotation is of the older ScalingConfig
        if isinstance(scaling.num_workers, tuple):
            # Not above: it needs a newer Ray than runs of a fixed size do.
            from distcond.launch.ray.elastic import ElasticPolicyWithTimeout

            parts["scaling_policy"] = ElasticPolicyWithTimeout(scaling, self.patience)
        elif self.alone:
            parts["scaling_policy"] = FixedPolicyWithoutAutoscaler(scaling)
        if get_runtime_context().get_actor_id() is None:
            return super()._initialize_and_run_controller(**parts)
        # A trial is an actor already, which ends with its workers: one more process would only cost seconds.
        controller = TrainController(**parts)
        asyncio.run(controller.run())  # type: ignore[no-untyped-call]
        return controller.get_result()


def train_on_ray(config: Config, run_path: Path, attempt: int, ray: Cluster) -> None:
    """Run `config` to its end on the cluster.

    Raises:
        ConfigError: the cluster cannot hold it, or a worker found a mistake of the user's.
        LaunchFailed: it did not finish.
        Stopped: it was asked to.
    """
    gpu, settings = on_gpu(config.launch, ray.capacity), to_settings(_with_full_paths(config))
    home = remote_run_of(config, run_path)
    with shared_dir_probe(run_path) as mark, forward_stop_request(home, run_path, mark):
        trainer = _trainer(config.launch, WorkerSpec(settings, str(run_path), attempt, gpu, mark), ray)
        first = next_attempt(run_path, attempt)
        try:
            ask_it = partial(request_stop, run_path, mark)
            with env_vars(_timeouts(config.launch)), graceful_stop(ask_it, config.launch.grace) as request:
                run_in_thread(trainer.fit)
        except Exception as error:
            restarts = max(0, next_attempt(run_path, attempt) - first - 1)
            raise _or_lost_directory(
                translate_ray_error(error, restarts, _keep_logs(ray, run_path)), run_path, mark
            ) from error
        finally:
            shutil.rmtree(_storage(run_path), ignore_errors=True)
    if home is not None:
        with suppress(ConfigError):  # what the run came to stands, whether the store answers or not
            home.pull(live=False)  # its first worker may have been on another machine
    if (request or stop_requested(run_path, mark)) and not RunDir(run_path).finished:
        raise RunStopped(describe_last_checkpoint(run_path), request.status)
    if not RunDir(run_path).finished and not epoch_limit_reached(run_path, epochs_done(run_path)):
        raise LaunchFailed(f"Ray Train ended without an error, but {run_path} is not finished")


def _or_lost_directory(error: Exception, run_path: Path, mark: str) -> Exception:
    """`error`, unless it comes of a run directory that this process, too, has lost sight of."""
    if read_probe(run_path) == mark:
        return error
    own = "" if isinstance(error, ConfigError) else f"; what it led to: {error}"
    return LaunchFailed(f"run_root: {run_path} is away; the same command goes on once it is back{own}")


def _timeouts(launch: LaunchConfig) -> dict[str, str]:
    return {
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(launch.timeout),
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(_start_seconds(launch)),
    }


def _start_seconds(launch: LaunchConfig) -> float:
    # Right after a node is lost Ray still counts on it: an elastic run should soon ask again for fewer.
    return min(launch.timeout, ELASTIC_START_SECONDS if launch.min_workers else START_SECONDS)


def _trainer(launch: LaunchConfig, order: WorkerSpec, ray: Cluster) -> RayTrainer:
    tries = 1 if ray.own else math.ceil(launch.timeout / _start_seconds(launch))
    callbacks: list[Any] = [FailFastCallback(), PlacementGroupRecorder(placement_group_file(Path(order.run_path)))]
    trainer = RayTrainer(
        train_loop,
        train_loop_config=order.as_dict(),
        torch_config=_torch(launch, order.gpu),
        scaling_config=_scaling(launch, order.gpu, ray),
        run_config=RunConfig(
            name=f"attempt-{order.attempt}",
            storage_path=str(_storage(Path(order.run_path))),
            failure_config=FailureConfig(max_failures=launch.max_failures, controller_failure_limit=tries),
            callbacks=callbacks,
            logging_config=LoggingConfig(log_level="CRITICAL"),
        ),
    )
    # No Ray Data here. The cleaner is for clusters that outlive a driver, and it works through the dashboard.
    trainer.without = ("DatasetsCallback", *(() if ray.dashboard else ("PlacementGroupCleanerCallback",)))
    trainer.patience, trainer.alone = launch.timeout, not ray.dashboard
    return trainer


def _torch(launch: LaunchConfig, gpu: bool) -> TorchConfig:
    timeout = math.ceil(launch.timeout)
    if gpu:
        return GpuConfig(backend="cpu:gloo,cuda:nccl", timeout_s=timeout, wanted=launch.device)
    return TorchConfig(backend="gloo", timeout_s=timeout)


def _scaling(launch: LaunchConfig, gpu: bool, ray: Cluster) -> ScalingConfig:
    least, most = range_of_workers(launch, ray.capacity, elastic=not ray.own)
    resources = {"CPU": float(launch.cpus_per_worker)} | ({"GPU": 1.0} if gpu else {})
    if least == most:
        return ScalingConfig(num_workers=most, use_gpu=gpu, resources_per_worker=resources)
    return ScalingConfig(
        num_workers=(least, most),
        use_gpu=gpu,
        resources_per_worker=resources,
        elastic_resize_monitor_interval_s=min(RESIZE_SECONDS, launch.timeout / 10),
    )


def _keep_logs(ray: Cluster, run_path: Path) -> Path | None:
    """Where the log files of a Ray of one's own lie once it is gone."""
    if ray.logs is None:
        return None
    kept = run_path / FAILURES_DIR / "ray-logs"
    with suppress(OSError):
        shutil.copytree(ray.logs, kept, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    return kept


def _storage(run_path: Path) -> Path:
    """Where Ray Train keeps a mark that it can write."""
    return placement_group_file(run_path).parent


def _with_full_paths(config: Config) -> Config:
    """Workers may stand in another directory, and `~` may be another one for them."""
    data = config.data
    full = dataclasses.replace(
        data, root=_full(data.root), cache_dir=_full(data.cache_dir), extra=_full(data.extra)
    )  # fmt: skip
    return dataclasses.replace(config, init_from=_full(config.init_from), data=full)


def _full(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""
