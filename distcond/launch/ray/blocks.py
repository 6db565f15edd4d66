"""Evaluate blocks on the workers of a Ray cluster. The run directory is on a file system that all nodes share."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import ray
import torch
from ray.exceptions import RayError

from distcond.distributed.world import choose_device
from distcond.evaluation.blocks import BlockEvaluator
from distcond.evaluation.plan import EvalPlan
from distcond.launch.capacity import choose_num_workers, workers_use_gpu
from distcond.launch.ray.cluster import Cluster
from distcond.runs.failures import LaunchFailed, WorkerError, as_driver_error, capture_worker_error


class BlockWorker:
    """An actor that evaluates blocks."""

    def __init__(self, plan: EvalPlan, rank: int, gpu: bool) -> None:
        torch.set_num_threads(plan.config.launch.cpus_per_worker)
        self.plan, self.rank = plan, rank
        # A node shows its GPUs also to workers that were assigned none.
        self.device = plan.config.launch.device if gpu else "cpu"
        self.evaluator: BlockEvaluator | None = None

    def evaluate(self, block: int) -> tuple[str, str, int, str] | None:
        """Evaluate a block. Returns the arguments of a WorkerError, None for success."""
        try:
            with capture_worker_error(self.plan.keep_path, self.rank, 0):
                if self.evaluator is None:
                    self.evaluator = BlockEvaluator(self.plan, choose_device(self.device))
                self.evaluator(block)
        except WorkerError as error:
            return error.kind, error.line, error.rank, error.file
        return None


def evaluate_on_ray(plan: EvalPlan, blocks: Sequence[int], cluster: Cluster) -> int:
    """Evaluate `blocks` on the cluster. Returns the number of workers. Another worker takes the block of one that dies.

    Raises:
        ConfigError: the workers do not fit into the cluster, or one of them found an error of the user.
        LaunchFailed: a worker failed, or all of them died.
    """
    launch = plan.config.launch
    workers = min(choose_num_workers(launch, cluster.capacity), len(blocks))
    gpu = workers_use_gpu(launch, cluster.capacity)
    resources: dict[str, Any] = {"num_cpus": launch.cpus_per_worker, "num_gpus": int(gpu)}
    waiting, handle = deque(blocks), ray.put(plan)
    remote: Any = ray.remote(BlockWorker)
    actors = [remote.options(**resources).remote(handle, rank, gpu) for rank in range(workers)]
    running: dict[Any, tuple[Any, int]] = {}
    for actor in actors:
        block = waiting.popleft()
        running[actor.evaluate.remote(block)] = (actor, block)
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
        actor, block = running.pop(ready)
        try:
            failure = ray.get(ready)
        except RayError as error:
            waiting.append(block)
            if not running:
                raise LaunchFailed(f"every worker died, the last at block {block}: {error}".splitlines()[0]) from error
            continue
        if failure is not None:
            raise as_driver_error(WorkerError(*failure))
        if waiting:
            block = waiting.popleft()
            running[actor.evaluate.remote(block)] = (actor, block)
    return workers
