"""How many trials run at a time.

A trial with one worker is given its cores and GPU by Ray Tune. The workers of a larger one are placed by Ray Train: if
more trials were started than there is capacity for, each would hold some workers and wait forever for the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from distcond.config.schema import Config, LaunchConfig
from distcond.errors import ConfigError
from distcond.launch.capacity import Capacity, choose_num_workers, detect_capacity, workers_use_gpu
from distcond.launch.ray.cluster import uses_existing_cluster
from distcond.tuning.options import SweepOptions
from distcond.tuning.trial_config import workers_per_trial


def max_concurrent_trials(
    launch: LaunchConfig, capacity: Capacity, nodes: Iterable[Mapping[str, float]], options: SweepOptions
) -> int:
    """Trials at a time: `options.concurrent`, or as many as fit.

    Args:
        launch: of every trial; `workers` = 0 means one.
        capacity: of the machine or the cluster in total.
        nodes: what each machine of it has, as {"CPU": cores, "GPU": gpus}.
        options: of the sweep.

    Raises:
        ConfigError: not even one fits, or fewer than wanted.
    """
    workers = workers_per_trial(launch)
    gpu = workers_use_gpu(launch, capacity)
    share = options.gpus if workers == 1 else 1.0
    # A worker is on one machine: what is left over on two does not make a third.
    places = sum(_places(node, launch.cpus_per_worker, share if gpu else 0.0) for node in nodes)
    if places < workers:
        choose_num_workers(launch, capacity)  # its message is better where the total is too small
        what = "GPUs and cores" if gpu else "cores"
        raise ConfigError(
            f"launch.workers={workers}: the {what} of {capacity.where} hold {places} workers of "
            f"launch.cpus_per_worker={launch.cpus_per_worker}, none of which may span two machines; "
            f"valid: 1 to {places}" + ("" if places else " with fewer cores each")
        )
    most = places // workers
    if options.concurrent > most:
        each = f"{workers} worker{'s' if workers > 1 else ''} of launch.cpus_per_worker={launch.cpus_per_worker}"
        raise ConfigError(
            f"concurrent={options.concurrent}: {capacity.where} holds {most} trials of {each}; valid: 1 to {most}, or 0"
        )
    return options.concurrent or most


def check_capacity(config: Config, options: SweepOptions, nodes: Sequence[Capacity] = ()) -> None:
    """Refuse a sweep that does not fit, before Ray is started. An existing cluster is looked at once it is joined.

    Args:
        config: of every trial.
        options: of the sweep.
        nodes: the machines that will run it; none = this one.

    Raises:
        ConfigError: not even one trial fits, or fewer than wanted.
    """
    if nodes or not uses_existing_cluster():
        nodes = nodes or [detect_capacity()]
        total = Capacity(sum(one.cores for one in nodes), sum(one.gpus for one in nodes), nodes[0].where)
        max_concurrent_trials(config.launch, total, [{"CPU": one.cores, "GPU": one.gpus} for one in nodes], options)


def _places(node: Mapping[str, float], cores: int, gpu: float) -> int:
    """Workers of `cores` cores and a share of a GPU that a machine holds."""
    by_cores = int(node.get("CPU", 0)) // cores
    return min(by_cores, int(node.get("GPU", 0)) * int(1 / gpu)) if gpu else by_cores
