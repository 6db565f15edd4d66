"""`shared_ray`: one Ray per test process, for tests that only need a running Ray.

    with start(command, env=place.environment | shared_ray.joining) as process: ...

It starts with the first test that uses it (15 s). Environment variables of a driver, such as FAULT, do not reach its
workers.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

#: Disables extra processes of Ray Train.
_LEAN = {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0", "RAY_TRAIN_METRICS_ENABLED": "0"}


#: Disables idle workers.
_IDLE = {"RAY_prestart_worker_first_driver": "0", "RAY_enable_worker_prestart": "0"}


@dataclass(frozen=True)
class Ray:
    """A running Ray.

    Attributes:
        address: HOST:PORT of its head.
        joining: The environment variables of a driver: RAY_ADDRESS, the token, and fewer processes of Ray Train.
        dashboard: The port of its dashboard; 0 without.
        agent: Host and port of its agent, which starts jobs.
    """

    address: str
    joining: dict[str, str]
    dashboard: int = 0
    agent: tuple[str, int] = ("", 0)


@contextmanager
def ray_of_one_node(cpus: int = 2, dashboard: bool = False, **variables: str) -> Iterator[Ray]:
    """A Ray with `cpus` cores and `variables` in the environment of its processes, stopped after the block."""
    from support.ray_nodes import RayNodes

    # Not in pytest's directory: Ray's sockets need a short path.
    folder = Path(tempfile.mkdtemp(prefix="dr-", dir="/tmp"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment = {**kept, "TMPDIR": str(folder), "OMP_NUM_THREADS": "1", **_IDLE, **variables}
    try:
        with RayNodes(folder, environment, dashboard=dashboard, cpus=cpus) as nodes:
            names = "RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"
            joining = _LEAN | {name: nodes.joining[name] for name in names}
            yield Ray(nodes.address, joining, nodes.dashboard_port, (nodes.host(1), nodes.agents[1]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_ray() -> Iterator[Ray]:
    """A Ray of two cores without a dashboard."""
    with ray_of_one_node() as ray:
        yield ray
