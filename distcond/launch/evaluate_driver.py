"""Run an evaluation plan: in this process, in several processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib.util import find_spec

from distcond.errors import ConfigError
from distcond.evaluation.plan import EvalPlan
from distcond.launch.block_pool import block_pool
from distcond.launch.capacity import detect_capacity, workers_use_gpu
from distcond.launch.ray.cluster import ray_cluster
from distcond.progress.evaluation_progress import report_evaluation

_log = logging.getLogger(__name__)


def run_plan(plan: EvalPlan) -> int:
    """Evaluate the blocks that have no outcomes yet. Returns the number of workers.

    Raises:
        ConfigError: more workers than blocks or GPUs, no Ray, or an error of the user that only shows now.
        LaunchFailed: the evaluation failed; the same command resumes it.
    """
    files = plan.files()
    missing = [block for block, outcomes in files.items() if not all(file.exists() for file in outcomes)]
    workers = choose_plan_workers(plan)
    if not missing:
        _log.info("all blocks are evaluated already")
        return workers
    if plan.outdated():
        _log.info("attacks by an earlier version are repeated: random starts were drawn per block, now per example")
    with report_evaluation([file for outcomes in files.values() for file in outcomes]):
        if plan.config.launch.name == "ray":
            return _run_on_ray(plan, missing)
        with block_pool(plan, min(workers, len(missing))) as count:
            count(plan, missing, lambda block: None)
    return workers


def choose_plan_workers(plan: EvalPlan) -> int:
    """`launch.workers`; for 0: one per GPU, or one per core without GPUs, but at most one per block.

    Raises:
        ConfigError: more workers than blocks or GPUs.
    """
    launch, machine = plan.config.launch, detect_capacity()
    if launch.workers > plan.blocks:
        size = f"{plan.examples} examples in blocks of eval.batch_size={plan.block_size}"
        valid = f"1 to {plan.blocks}" if plan.blocks > 1 else "1"
        raise ConfigError(f"launch.workers={launch.workers}: {size}; valid: {valid}, or smaller blocks")
    if launch.name == "ray":
        if find_spec("ray") is None:
            raise ConfigError("launch=ray: Ray is not installed; valid: local, or pip install 'ray[default]'")
        return launch.workers or plan.blocks
    gpu = workers_use_gpu(launch, machine)
    if gpu and launch.workers > machine.gpus:
        raise ConfigError(
            f"launch.workers={launch.workers}: this machine has {machine.gpus} GPUs; valid: 1 to {machine.gpus}"
        )
    most = machine.gpus if gpu else max(1, machine.cores // launch.cpus_per_worker)
    return launch.workers or min(most, plan.blocks)


def _run_on_ray(plan: EvalPlan, blocks: list[int]) -> int:
    with ray_cluster() as ray:
        from distcond.launch.ray.blocks import evaluate_on_ray
        from distcond.launch.ray.worker import with_absolute_paths

        return evaluate_on_ray(replace(plan, config=with_absolute_paths(plan.config)), blocks, ray)
