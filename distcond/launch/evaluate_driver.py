"""Carry an evaluation out: in this process, in several of this machine, or on a Ray cluster."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from distcond.errors import ConfigError
from distcond.evaluation.plan import EvalPlan
from distcond.launch.block_pool import counting
from distcond.launch.capacity import on_gpu, this_machine
from distcond.launch.ray.cluster import ray_cluster
from distcond.launch.sweep_watch import sweep_watched

_log = logging.getLogger(__name__)


def carry_out(plan: EvalPlan) -> int:
    """Count what is not counted yet and return on how many workers.

    Raises:
        ConfigError: more workers than blocks or GPUs, no Ray, or a mistake that only shows now.
        LaunchFailed: it did not finish; the same command goes on.
    """
    files = plan.files()
    left = [block for block, ends in files.items() if not all(file.exists() for file in ends)]
    workers = workers_for(plan)
    if not left:
        _log.info("every block is counted already")
        return workers
    if plan.outdated():
        _log.info("attacks by an earlier version are made again: it drew the random starts of a block together")
    with sweep_watched([file for ends in files.values() for file in ends]):
        if plan.config.launch.name == "ray":
            return _on_ray(plan, left)
        with counting(plan, min(workers, len(left))) as count:
            count(plan, left, lambda block: None)
    return workers


def workers_for(plan: EvalPlan) -> int:
    """How many workers: as asked, else one per GPU, or one per core without; never more than blocks.

    Raises:
        ConfigError: more asked for than there are blocks or GPUs.
    """
    launch, here = plan.config.launch, this_machine()
    if launch.workers > plan.blocks:
        size = f"{plan.examples} examples in blocks of eval.batch_size={plan.block_size}"
        valid = f"1 to {plan.blocks}" if plan.blocks > 1 else "1"
        raise ConfigError(f"launch.workers={launch.workers}: {size}; valid: {valid}, or smaller blocks")
    if launch.name == "ray":
        if find_spec("ray") is None:
            raise ConfigError("launch=ray: Ray is not installed; valid: local, or pip install 'ray[default]'")
        return launch.workers or plan.blocks
    gpu = on_gpu(launch, here)
    if gpu and launch.workers > here.gpus:
        raise ConfigError(
            f"launch.workers={launch.workers}: this machine has {here.gpus} GPUs; valid: 1 to {here.gpus}"
        )
    most = here.gpus if gpu else max(1, here.cores // launch.cpus_per_worker)
    return launch.workers or min(most, plan.blocks)


def _on_ray(plan: EvalPlan, left: list[int]) -> int:
    with ray_cluster() as ray:
        from distcond.launch.ray_blocks import count_on_ray

        return count_on_ray(_with_full_paths(plan), left, ray)


def _with_full_paths(plan: EvalPlan) -> EvalPlan:
    """Workers may stand in another directory."""
    data = plan.config.data
    root = str(Path(data.root).expanduser().absolute()) if data.root else ""
    data = replace(data, root=root, cache_dir=str(Path(data.cache_dir).expanduser().absolute()))
    return replace(plan, config=replace(plan.config, data=data))
