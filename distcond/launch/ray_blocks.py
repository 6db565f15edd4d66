"""Workers of a Ray cluster that count blocks of an evaluation. The run directory is on a file system they share."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import RayError

from distcond.distributed.world import choose_device
from distcond.evaluation.blocks import BlockEvaluator
from distcond.evaluation.plan import EvalPlan
from distcond.launch.block_pool import as_told
from distcond.launch.capacity import number_of_workers, on_gpu
from distcond.launch.ray.cluster import Cluster
from distcond.runs.failures import LaunchFailed, WorkerError, capture_worker_error


class Worker:
    """One actor; its process ends with it."""

    def __init__(self, plan: EvalPlan, rank: int, gpu: bool) -> None:
        import torch

        torch.set_num_threads(plan.config.launch.cpus_per_worker)
        self.plan, self.rank = plan, rank
        # A node shows its GPUs to workers that were given none, too.
        self.device = plan.config.launch.device if gpu else "cpu"
        self.evaluator: BlockEvaluator | None = None

    def count(self, block: int) -> tuple[str, str, int, str] | None:
        """Count a block; an error comes back as plain texts."""
        try:
            with capture_worker_error(self.plan.keep_path, self.rank, 0):
                if self.evaluator is None:
                    self.evaluator = BlockEvaluator(self.plan, choose_device(self.device))
                self.evaluator(block)
        except WorkerError as error:
            return error.kind, error.line, error.rank, error.file
        return None


def count_on_ray(plan: EvalPlan, blocks: Sequence[int], cluster: Cluster) -> int:
    """Count `blocks` on the cluster and return on how many workers. A block whose worker dies goes to another one.

    Raises:
        ConfigError: the cluster cannot hold the workers, or one of them found a mistake of the user's.
        LaunchFailed: a worker failed, or none is left.
    """
    launch = plan.config.launch
    workers = min(number_of_workers(launch, cluster.capacity), len(blocks))
    gpu = on_gpu(launch, cluster.capacity)
    needs: dict[str, Any] = {"num_cpus": launch.cpus_per_worker, "num_gpus": int(gpu)}
    waiting, handle = deque(blocks), ray.put(plan)
    remote: Any = ray.remote(Worker)
    actors = [remote.options(**needs).remote(handle, rank, gpu) for rank in range(workers)]
    running: dict[Any, tuple[Any, int]] = {}
    for actor in actors:
        block = waiting.popleft()
        running[actor.count.remote(block)] = (actor, block)
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
        actor, block = running.pop(ready)
        try:
            answer = ray.get(ready)
        except RayError as error:
            waiting.append(block)
            if not running:
                raise LaunchFailed(f"every worker died, the last at block {block}: {error}".splitlines()[0]) from error
            continue
        if answer is not None:
            raise as_told(WorkerError(*answer))
        if waiting:
            block = waiting.popleft()
            running[actor.count.remote(block)] = (actor, block)
    return workers
