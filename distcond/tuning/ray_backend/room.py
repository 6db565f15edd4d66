"""How many trials fit at a time. A trial itself takes no core: its workers do, and Ray Train asks for them later.

If more trials were started than there is room for workers, each would hold some and wait for ever for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from distcond.config.schema import LaunchConfig
from distcond.errors import ConfigError
from distcond.launch.capacity import Capacity, choose_num_workers, workers_use_gpu


def room(launch: LaunchConfig, capacity: Capacity, nodes: Iterable[Mapping[str, float]], concurrent: int) -> int:
    """Trials at a time.

    Args:
        launch: of every trial; `workers` = 0 means one.
        capacity: of the machine or the cluster in all.
        nodes: what each machine of it has, as {"CPU": cores, "GPU": gpus}.
        concurrent: as many as the user wants; 0 = as many as fit.

    Raises:
        ConfigError: not even one fits, or fewer than wanted.
    """
    workers = per_trial(launch)
    gpu = workers_use_gpu(launch, capacity)
    # A worker lies on one machine: what is left over on two does not make a third.
    places = sum(_places(node, launch.cpus_per_worker, gpu) for node in nodes)
    if places < workers:
        choose_num_workers(launch, capacity)  # says it best where the sum is too small
        what = "GPUs and cores" if gpu else "cores"
        raise ConfigError(
            f"launch.workers={workers}: the {what} of {capacity.where} hold {places} workers of "
            f"launch.cpus_per_worker={launch.cpus_per_worker}, none of which may span two machines; "
            f"valid: 1 to {places}" + ("" if places else " with fewer cores each")
        )
    most = places // workers
    if concurrent > most:
        each = f"{workers} worker{'s' if workers > 1 else ''} of launch.cpus_per_worker={launch.cpus_per_worker}"
        raise ConfigError(f"concurrent={concurrent}: {capacity.where} has room for {most} trials of {each}")
    return concurrent or most


def per_trial(launch: LaunchConfig) -> int:
    """Workers of one trial: several small trials at a time serve a search better than one large one."""
    return launch.workers or 1


def nodes_of(ray: Any) -> list[dict[str, float]]:
    """What each machine of a Ray that is up has."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _places(node: Mapping[str, float], cores: int, gpu: bool) -> int:
    by_cores = int(node.get("CPU", 0)) // cores
    return min(by_cores, int(node.get("GPU", 0))) if gpu else by_cores
