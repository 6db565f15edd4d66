"""The Ray cluster of a run: an existing one, or a local one that is started for the run and ends with it."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distcond.errors import ConfigError
from distcond.launch.capacity import Capacity, detect_capacity
from distcond.launch.ray.address import require_answer
from distcond.launch.ray.local_auth import RAY_SUBDIR, env_vars, local_ray_auth, private_directory, processes_with_token
from distcond.launch.ray.shared_machine import warn_if_open
from distcond.launch.stopping import SIGTERM_STATUS, exit_on_stop_signal
from distcond.private_dir import VARIABLE as PRIVATE_DIR_VARIABLE
from distcond.runs.failures import LaunchFailed, format_error_line

#: Small, since nothing large goes through Ray: workers read the images and write the checkpoints themselves.
OBJECT_STORE_BYTES = 100 * 2**20

#: Seconds that Ray's processes get to exit by themselves.
GRACE = 10.0

#: Tries to start a local cluster: Ray gives its node 30 s to start, which a busy machine may exceed.
STARTS = 3

#: Part of Ray's error in that case.
_SLOW_START = "timed out during startup"

#: Defaults for a fast and quiet Ray Train; what the user has set takes precedence.
_RAY_TRAIN_DEFAULTS = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # the end of a run is noticed by polling; the default is 2
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # otherwise workers' prints appear twice
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # so that relative paths mean the same in workers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_COLOR_PREFIX": "0",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "5",  # after a failure other workers hang in a collective
}

#: Variables that ray.init sets in this process. They are restored afterwards.
_SET_BY_RAY = ("PYTHONBREAKPOINT", "RAY_CLIENT_MODE")

#: More defaults for a local cluster, which has no other node, no other job and no dashboard.
_LOCAL_DEFAULTS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",  # prestarted workers have the wrong environment for the actors
    "RAY_enable_worker_prestart": "0",
    "RAY_worker_niceness": "0",  # by default workers run at low priority
}

#: Set in all processes of a local cluster.
_OWNED = "DISTCOND_OWNS_RAY"


@dataclass(frozen=True)
class Cluster:
    """A running Ray cluster.

    Attributes:
        capacity: its total resources.
        own: whether it was started for this run, or for the sweep that this run is part of.
        dashboard: whether it has a dashboard; parts of Ray Train log an error every second without one.
        logs: the log directory of a cluster that was started here.
    """

    capacity: Capacity
    own: bool
    dashboard: bool
    logs: Path | None = None


def uses_existing_cluster() -> bool:
    """Whether to join an existing cluster: RAY_ADDRESS is set (as in every submitted job), or Ray is initialised here.

    Raises:
        ConfigError: RAY_ADDRESS names a Ray Client server.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if "://" in address:
        raise ConfigError(f"RAY_ADDRESS={address}: Ray Client is not supported; use HOST:PORT or `ray job submit`")
    return address not in ("", "local") or _initialised()


def require_ray() -> None:
    """Check that the existing cluster answers.

    Raises:
        ConfigError: it does not answer, or rejects this process.
    """
    if not _initialised():
        require_answer(os.environ["RAY_ADDRESS"])


@contextmanager
def ray_cluster() -> Iterator[Cluster]:
    """Join the existing cluster, or start a local one and remove every trace of it, also after Ctrl-C and SIGTERM.

    Raises:
        ConfigError: no cluster answers at RAY_ADDRESS.
        LaunchFailed: Ray cannot be joined or started.
    """
    defaults = {name: os.environ.get(name, value) for name, value in _RAY_TRAIN_DEFAULTS.items()}
    with env_vars(defaults | {name: os.environ.get(name) for name in _SET_BY_RAY}):
        if _initialised():
            yield Cluster(_resources(), own=_OWNED in os.environ, dashboard=_OWNED not in os.environ)
        else:
            with _join_cluster() if uses_existing_cluster() else _local_cluster() as cluster:
                yield cluster


@contextmanager
def _join_cluster() -> Iterator[Cluster]:
    require_ray()
    import ray

    # A submitted job ships its code. Otherwise the same path is expected on all nodes.
    # Ray's workers may import torch before distcond, which would set OMP_WAIT_POLICY too late.
    variables = {"PYTHONPATH": _python_path(), "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "passive")}
    runtime_env = {} if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else {"env_vars": variables}
    address = os.environ["RAY_ADDRESS"]
    with exit_on_stop_signal() as arm:
        try:
            url = _connect(
                f"cannot join the Ray cluster at RAY_ADDRESS={address}", address=address, runtime_env=runtime_env
            )
            arm()
            warn_if_open(_session_directory())
            yield Cluster(_resources(), own=False, dashboard=bool(url))
        finally:
            ray.shutdown()


@contextmanager
def _local_cluster() -> Iterator[Cluster]:
    machine = detect_capacity()
    variables = {name: os.environ.get(name, value) for name, value in _LOCAL_DEFAULTS.items()}
    variables |= {"PYTHONPATH": _python_path(), _OWNED: "1"}
    with (
        exit_on_stop_signal() as arm,
        private_directory() as folder,
        local_ray_auth(folder),
        env_vars({**variables, PRIVATE_DIR_VARIABLE: str(folder)}),
    ):
        import ray

        try:
            _start_ray(
                folder / "token",
                address="local",
                num_cpus=machine.cores,
                num_gpus=machine.gpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                _temp_dir=str(folder / RAY_SUBDIR),
            )
            arm()
            yield Cluster(machine, own=True, dashboard=False, logs=folder / RAY_SUBDIR / "session_latest" / "logs")
        finally:
            # If ray.init was interrupted, Ray does not know which processes it has started.
            grace = GRACE if ray.is_initialized() else 0.0
            ray.shutdown()
            _end_processes(lambda: processes_with_token(folder / "token"), grace)


def _start_ray(token: Path, **arguments: Any) -> None:
    """Start a local cluster with `token`; retry if the machine was too slow."""
    for tries_left in reversed(range(STARTS)):
        try:
            _connect("cannot start Ray (launch=local runs without it)", **arguments)
            return
        except LaunchFailed as error:
            if not tries_left or _SLOW_START not in str(error):
                raise
            _end_processes(lambda: processes_with_token(token), 0.0)


def _connect(failure: str, **arguments: Any) -> str:
    """Call `ray.init`. Returns the URL of the dashboard, empty without one.

    Raises:
        LaunchFailed: `failure`, with Ray's reason.
        SystemExit: Ray's SIGTERM handler was called; with the exit status that distcond uses.
    """
    import ray

    try:
        context = ray.init(logging_level=logging.ERROR, **arguments)
    except SystemExit as stop:
        raise SystemExit(SIGTERM_STATUS if stop.code == signal.SIGTERM else stop.code) from None
    except Exception as error:
        raise LaunchFailed(f"{failure}: {format_error_line(error)}") from error
    return context.dashboard_url or ""


def _end_processes(find: Callable[[], list[int]], grace: float) -> None:
    """Wait for Ray's processes, which exit once the raylet has; kill the rest after `grace` seconds."""
    deadline = time.monotonic() + grace
    while (remaining := find()) and time.monotonic() < deadline + GRACE:
        if time.monotonic() > deadline:
            for process in remaining:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def _resources() -> Capacity:
    import ray

    total: dict[str, float] = ray.cluster_resources()
    return Capacity(int(total.get("CPU", 0)), int(total.get("GPU", 0)), "the Ray cluster")


def _session_directory() -> Path:
    """The directory of the cluster's session on this node."""
    from ray._private.worker import global_worker

    assert global_worker.node is not None
    return Path(global_worker.node.get_session_dir_path())


def _initialised() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _python_path() -> str:
    """PYTHONPATH for Ray's processes: the working directory if this process imports from it, distcond, and the old."""
    package = str(Path(__file__).resolve().parents[3])
    cwd = [str(Path.cwd())] if {"", str(Path.cwd())} & set(sys.path) else []
    old = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(dict.fromkeys(filter(None, [*cwd, package, *old])))
