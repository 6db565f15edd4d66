"""What a run keeps to go on from, and going on from it."""

from __future__ import annotations

import sys
from typing import Any

from distcond.engine import checkpoint
from distcond.engine.job import Job, Position
from distcond.errors import ConfigError


def save(job: Job) -> None:
    """Write a checkpoint of the epochs done; of the earlier ones only the best stays."""
    shared = {
        "method": job.config.method.name,
        "optimiser": job.optimiser.state_dict(),
        "position": tuple(job.position),
        "best": job.best,
        "train_flops": job.train_flops,
        "sparsity": job.sparsity.state_dict() if job.sparsity is not None else None,
        "averaged": job.averaged.state_dict() if job.averaged is not None else None,
    }
    done, own = job.position.done, job.averaged.statistics() if job.averaged is not None else None
    checkpoint.save(job.run.checkpoints, done, job.world, job.model, shared, own)
    if job.world.first:
        checkpoint.keep_only(job.run.checkpoints, {done} | ({job.best[0]} if job.best else set()))


def resume(job: Job) -> bool:
    """Load the newest checkpoint; False without one.

    Raises:
        ConfigError: the checkpoint does not fit this run.
    """
    path = checkpoint.newest(job.run.checkpoints)
    if path is None:
        return False
    shared = checkpoint.load_shared(path, job.world.device)
    _check(job, shared, str(path))
    job.enter(Position(*shared["position"]))
    try:
        job.model.load_state_dict(shared["model"] | checkpoint.load_statistics(path, job.world.rank, job.world.device))
        job.optimiser.load_state_dict(shared["optimiser"])
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{path}: holds another network than model={job.config.model.name}: {error}") from error
    if job.sparsity is not None:
        job.sparsity.load_state_dict(shared["sparsity"])
    if job.averaged is not None:
        own = checkpoint.load_statistics(path, job.world.rank, job.world.device, "averaged")
        job.averaged.load_state_dict(shared["averaged"], own)
    job.train_flops = shared["train_flops"]
    job.best = tuple(shared["best"]) if shared["best"] is not None else None
    return True


def _check(job: Job, shared: dict[str, Any], path: str) -> None:
    if shared["method"] != job.config.method.name:
        wanted = job.config.method.name
        raise ConfigError(f"{path}: a checkpoint of method={shared['method']}, not of method={wanted}")
    if job.world.first and shared["world_size"] != job.world.size:
        print(
            f"resuming with {job.world.size} workers a run saved by {shared['world_size']}: the same global batches, "
            "but BN statistics per worker, and CutMix, now see other shares of them",
            file=sys.stderr,
        )
