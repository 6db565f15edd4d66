"""A run on Ray Train. Ray places and restarts workers; metrics, checkpoints and resuming are the run's own."""

from __future__ import annotations

import asyncio
import math
import os
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
from distcond.launch.capacity import choose_worker_range, workers_use_gpu
from distcond.launch.ray.cluster import Cluster
from distcond.launch.ray.errors import FailFastCallback, translate_ray_error
from distcond.launch.ray.gpu import GpuConfig
from distcond.launch.ray.local_auth import env_vars
from distcond.launch.ray.placement_group import PlacementGroupRecorder, placement_group_file
from distcond.launch.ray.process_group import PrivateStoreConfig
from distcond.launch.ray.worker import WorkerSpec, read_probe, shared_dir_probe, train_loop, with_absolute_paths
from distcond.launch.stopping import (
    RunStopped,
    describe_last_checkpoint,
    forward_stop_request,
    graceful_stop,
    request_stop,
    run_in_thread,
    stop_requested,
)
from distcond.run_layout import FAILURES_DIR, RAY_DIR
from distcond.runs.attempts import next_attempt
from distcond.runs.failures import LaunchFailed
from distcond.runs.remote import remote_run_of
from distcond.runs.run_dir import RunDir

#: Seconds to wait for free resources before asking again.
START_SECONDS = 60.0
ELASTIC_START_SECONDS = 15.0

#: Seconds between two checks whether a cluster has resources for more workers.
RESIZE_SECONDS = 60.0


def train_on_ray(config: Config, run_path: Path, attempt: int, ray: Cluster, gate: str = "") -> None:
    """Run `config` to its end on the cluster.

    Args:
        config: what to run.
        run_path: its directory.
        attempt: number of earlier starts.
        ray: the cluster.
        gate: name of an `EpochGate` that holds the run after each epoch; "" for none.

    Raises:
        ConfigError: the run does not fit into the cluster, or a worker found an error of the user.
        LaunchFailed: the run failed.
        RunStopped: the run was asked to stop, and has saved a checkpoint.
    """
    gpu, settings = workers_use_gpu(config.launch, ray.capacity), to_settings(with_absolute_paths(config))
    remote = remote_run_of(config, run_path)
    with shared_dir_probe(run_path) as probe, forward_stop_request(remote, run_path, probe):
        trainer = _build_trainer(config.launch, WorkerSpec(settings, str(run_path), attempt, gpu, probe, gate), ray)
        first = next_attempt(run_path, attempt)
        ask_to_stop = partial(request_stop, run_path, probe)
        try:
            with env_vars(_ray_timeouts(config.launch)), graceful_stop(ask_to_stop, config.launch.grace) as request:
                run_in_thread(trainer.fit)
        except Exception as error:
            restarts = max(0, next_attempt(run_path, attempt) - first - 1)
            translated = translate_ray_error(error, restarts, _keep_logs(ray, run_path))
            raise explain_lost_directory(translated, run_path, probe) from error
        finally:
            shutil.rmtree(run_path / RAY_DIR, ignore_errors=True)
    if remote is not None:
        with suppress(ConfigError):  # the outcome of the run does not depend on whether the store answers now
            remote.pull(live=False)  # rank 0 may have been on another machine
    if (request or stop_requested(run_path, probe)) and not RunDir(run_path).finished:
        raise RunStopped(describe_last_checkpoint(run_path), request.status)
    if not RunDir(run_path).finished:
        raise LaunchFailed(f"Ray Train ended without an error, but {run_path} is not finished")


def explain_lost_directory(error: Exception, run_path: Path, probe: str) -> Exception:
    """`error`, or if this process does not see the run directory any more either, an error that says so."""
    if read_probe(run_path) == probe:
        return error
    consequence = "" if isinstance(error, ConfigError) else f"; this caused: {error}"
    return LaunchFailed(
        f"run_root: {run_path} is not accessible any more; the same command resumes once it is{consequence}"
    )


class RayTrainer(TorchTrainer):
    """TorchTrainer without the actors that a run does not need: each costs a process and seconds to start.

    Attributes:
        disabled_callbacks: class names of default callbacks to leave out.
        timeout: seconds to wait for resources for the least number of workers.
        has_autoscaler: whether the cluster may have an autoscaler.
    """

    disabled_callbacks: tuple[str, ...] = ()
    timeout: float = math.inf
    has_autoscaler: bool = True

    def _create_default_callbacks(self) -> list[Any]:
        callbacks = super()._create_default_callbacks()
        return [callback for callback in callbacks if type(callback).__name__ not in self.disabled_callbacks]

    def _initialize_and_run_controller(self, **parts: Any) -> Any:
        scaling: Any = self.scaling_config  # annotated as the older ScalingConfig
        if isinstance(scaling.num_workers, tuple):
            # Imported here because it needs a newer Ray than runs of a fixed size do.
            from distcond.launch.ray.elastic import ElasticPolicyWithTimeout

            parts["scaling_policy"] = ElasticPolicyWithTimeout(scaling, self.timeout)
        elif not self.has_autoscaler:
            parts["scaling_policy"] = FixedPolicyWithoutAutoscaler(scaling)
        if get_runtime_context().get_actor_id() is None:
            return super()._initialize_and_run_controller(**parts)
        # A trial already is an actor, which ends with its workers: run the controller in this process.
        controller = TrainController(**parts)
        asyncio.run(controller.run())
        return controller.get_result()


class FixedPolicyWithoutAutoscaler(FixedScalingPolicy):
    """Requests nothing from an autoscaler, which would be one more process for the workers' start to wait for."""

    def after_controller_start(self, train_run_context: Any) -> None:
        """Register nothing, so there is nothing to cancel either."""

    def _maybe_send_resource_request(self) -> None:
        """There is no autoscaler to send it to."""


def _build_trainer(launch: LaunchConfig, spec: WorkerSpec, ray: Cluster) -> RayTrainer:
    start_tries = 1 if ray.own else math.ceil(launch.timeout / _start_seconds(launch))
    run_path = Path(spec.run_path)
    callbacks: list[Any] = [FailFastCallback(), PlacementGroupRecorder(placement_group_file(run_path))]
    trainer = RayTrainer(
        train_loop,
        train_loop_config=spec.as_dict(),
        torch_config=_torch_config(launch, spec.gpu),
        scaling_config=_scaling_config(launch, spec.gpu, ray),
        run_config=RunConfig(
            name=f"attempt-{spec.attempt}",
            storage_path=str(run_path / RAY_DIR),
            failure_config=FailureConfig(max_failures=launch.max_failures, controller_failure_limit=start_tries),
            callbacks=callbacks,
            logging_config=LoggingConfig(log_level="CRITICAL"),
        ),
    )
    # No run uses Ray Data. The cleaner is for clusters that outlive a driver, and needs the dashboard.
    trainer.disabled_callbacks = ("DatasetsCallback", *(() if ray.dashboard else ("PlacementGroupCleanerCallback",)))
    trainer.timeout, trainer.has_autoscaler = launch.timeout, ray.dashboard
    return trainer


def _torch_config(launch: LaunchConfig, gpu: bool) -> TorchConfig:
    timeout = math.ceil(launch.timeout)
    if gpu:
        return GpuConfig(backend="cpu:gloo,cuda:nccl", timeout_s=timeout, device=launch.device)
    return PrivateStoreConfig(backend="gloo", timeout_s=timeout)


def _scaling_config(launch: LaunchConfig, gpu: bool, ray: Cluster) -> ScalingConfig:
    least, most = choose_worker_range(launch, ray.capacity, elastic=not ray.own)
    resources = {"CPU": float(launch.cpus_per_worker)} | ({"GPU": 1.0} if gpu else {})
    if least == most:
        return ScalingConfig(num_workers=most, use_gpu=gpu, resources_per_worker=resources)
    return ScalingConfig(
        num_workers=(least, most),
        use_gpu=gpu,
        resources_per_worker=resources,
        elastic_resize_monitor_interval_s=min(RESIZE_SECONDS, launch.timeout / 10),
    )


def _ray_timeouts(launch: LaunchConfig) -> dict[str, str]:
    return {
        "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": str(launch.timeout),
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(_start_seconds(launch)),
    }


def _start_seconds(launch: LaunchConfig) -> float:
    # Right after losing a node Ray still counts its resources: an elastic run should soon ask again for fewer.
    return min(launch.timeout, ELASTIC_START_SECONDS if launch.min_workers else START_SECONDS)


def _keep_logs(ray: Cluster, run_path: Path) -> Path | None:
    """Copy the logs of a local cluster, which is deleted, into the run directory. Returns where they are."""
    if ray.logs is None:
        return None
    copy = run_path / FAILURES_DIR / "ray-logs"
    copy_with_usual_modes(ray.logs, copy)
    return copy


def copy_with_usual_modes(source: Path, target: Path) -> None:
    """Copy regular files as far as possible, with the modes of new files: Ray makes its own writable by every user."""
    for folder, _, names in os.walk(source):
        copy = target / Path(folder).relative_to(source)
        with suppress(OSError):
            copy.mkdir(parents=True, exist_ok=True)
        for name in names:
            with suppress(OSError):
                shutil.copyfile(Path(folder, name), copy / name)
