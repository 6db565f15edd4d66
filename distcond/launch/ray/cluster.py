"""The Ray a run uses: one that is already up, or a local one that is started for the run and ends with it."""

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
from distcond.launch.capacity import Capacity, this_machine
from distcond.launch.ray.address import require_answer
from distcond.launch.ray.local_auth import RAY_SUBDIR, env_vars, local_ray_auth, private_directory, processes_with_token
from distcond.launch.stopping import SIGTERM_STATUS, exit_on_stop_signal
from distcond.runs.failures import LaunchFailed, one_line

#: Nothing large goes through Ray: images are read by the workers, checkpoints written by them.
OBJECT_STORE_BYTES = 100 * 2**20

#: Seconds Ray's processes get to end by themselves.
GRACE = 10.0

#: Times a Ray of one's own is started: Ray gives its node 30 s, which a machine busy with other things may exceed.
STARTS = 3

#: What Ray says then.
_SLOW = "timed out during startup"

#: Unless set by the user: a swift and quiet Ray Train.
_QUIET = {
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # a run ends when it is polled; the default is 2
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # with it, workers' prints come twice
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same everywhere
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_COLOR_PREFIX": "0",
    "TORCH_PROCESS_GROUP_SHUTDOWN_TIMEOUT_S": "5",  # a worker that failed leaves others in a collective
}

#: What ray.init itself changes in this process.
_CHANGED = ("PYTHONBREAKPOINT", "RAY_CLIENT_MODE")

#: Besides, for a Ray of one's own, which has no other node, no other job and no dashboard.
_OWN = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_prestart_worker_first_driver": "0",  # these workers would have the wrong environment for every actor
    "RAY_enable_worker_prestart": "0",
    "RAY_worker_niceness": "0",  # by default any other program goes before the workers
}


#: Set in all processes of a Ray of one's own.
_OWNED = "DISTCOND_OWNS_RAY"


@dataclass(frozen=True)
class Cluster:
    """A Ray that is up.

    Attributes:
        capacity: what it holds in all.
        own: whether it was started for this run, or for the tuning this run is part of.
        dashboard: whether it has one; without it parts of Ray Train complain every second.
        logs: where a Ray of one's own writes its log files.
    """

    capacity: Capacity
    own: bool
    dashboard: bool
    logs: Path | None = None


def uses_existing_cluster() -> bool:
    """Whether a run joins a Ray: RAY_ADDRESS names one (a submitted job always has it), or this process is in one.

    Raises:
        ConfigError: RAY_ADDRESS names a Ray Client server.
    """
    address = os.environ.get("RAY_ADDRESS", "")
    if "://" in address:
        raise ConfigError(f"RAY_ADDRESS={address}: Ray Client is not supported; use HOST:PORT or `ray job submit`")
    return address not in ("", "local") or _initialised()


def require_ray() -> None:
    """See that the Ray that a run joins answers.

    Raises:
        ConfigError: it does not, or not to this process.
    """
    if not _initialised():
        require_answer(os.environ["RAY_ADDRESS"])


@contextmanager
def ray_cluster() -> Iterator[Cluster]:
    """Join the Ray that is there or start one; leave nothing of the latter behind, also after Ctrl-C and SIGTERM.

    Raises:
        ConfigError: no Ray answers at RAY_ADDRESS.
        LaunchFailed: Ray cannot be joined or started.
    """
    quiet = {name: os.environ.get(name, value) for name, value in _QUIET.items()}
    with env_vars(quiet | {name: os.environ.get(name) for name in _CHANGED}):
        if _initialised():
            yield Cluster(_resources(), own=_OWNED in os.environ, dashboard=_OWNED not in os.environ)
        else:
            with _join() if uses_existing_cluster() else _start_local() as found:
                yield found


@contextmanager
def _join() -> Iterator[Cluster]:
    require_ray()
    import ray

    # A job has brought its code along; otherwise what lies here lies there too.
    runtime_env = {} if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ else {"env_vars": {"PYTHONPATH": _python_path()}}
    address = os.environ["RAY_ADDRESS"]
    with exit_on_stop_signal() as arm:
        try:
            url = _connect(f"cannot join the Ray at RAY_ADDRESS={address}", address=address, runtime_env=runtime_env)
            arm()
            yield Cluster(_resources(), own=False, dashboard=bool(url))
        finally:
            ray.shutdown()


@contextmanager
def _start_local() -> Iterator[Cluster]:
    here = this_machine()
    own = {name: os.environ.get(name, value) for name, value in _OWN.items()}
    own |= {"PYTHONPATH": _python_path(), _OWNED: "1"}
    with exit_on_stop_signal() as arm, private_directory() as folder, local_ray_auth(folder), env_vars(own):
        import ray

        try:
            _start(
                folder / "token",
                address="local",
                num_cpus=here.cores,
                num_gpus=here.gpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                _temp_dir=str(folder / RAY_SUBDIR),
            )
            arm()
            yield Cluster(here, own=True, dashboard=False, logs=folder / RAY_SUBDIR / "session_latest" / "logs")
        finally:
            # Interrupted within ray.init, Ray does not know what it has started.
            grace = GRACE if ray.is_initialized() else 0.0
            ray.shutdown()
            _end(lambda: processes_with_token(folder / "token"), grace)


def _start(token: Path, **arguments: Any) -> None:
    """Start a Ray with `token`, again where the machine was too slow for it."""
    for left in reversed(range(STARTS)):
        try:
            _connect("Ray does not start here (launch=local runs without it)", **arguments)
            return
        except LaunchFailed as error:
            if not left or _SLOW not in str(error):
                raise
            _end(lambda: processes_with_token(token), 0.0)


def _connect(otherwise: str, **arguments: Any) -> str:
    """`ray.init`, its failure in a line and the status of its own SIGTERM handler put right; the dashboard's URL."""
    import ray

    try:
        context = ray.init(logging_level=logging.ERROR, **arguments)
    except SystemExit as stop:
        raise SystemExit(SIGTERM_STATUS if stop.code == signal.SIGTERM else stop.code) from None
    except Exception as error:
        raise LaunchFailed(f"{otherwise}: {one_line(error)}") from error
    return context.dashboard_url or ""


def _end(left: Callable[[], list[int]], grace: float) -> None:
    """Wait for Ray's processes, which end by themselves once its raylet is gone; kill what is left after `grace` s."""
    deadline = time.monotonic() + grace
    while (found := left()) and time.monotonic() < deadline + GRACE:
        if time.monotonic() > deadline:
            for process in found:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


def _resources() -> Capacity:
    import ray

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return Capacity(int(total.get("CPU", 0)), int(total.get("GPU", 0)), "the Ray cluster")


def _initialised() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _python_path() -> str:
    """PYTHONPATH with which Ray's processes find distcond, and whatever this process imports from where it stands."""
    package = str(Path(__file__).resolve().parents[3])
    here = [str(Path.cwd())] if {"", str(Path.cwd())} & set(sys.path) else []
    before = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join(dict.fromkeys(filter(None, [*here, package, *before])))
