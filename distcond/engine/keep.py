"""What a run keeps to go on from, and going on from it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from distcond.engine import checkpoint
from distcond.engine.checkpoint import Moment
from distcond.engine.job import Job, Position
from distcond.engine.sums import Sums, dealt, require_finite
from distcond.engine.world import World
from distcond.errors import ConfigError


def save(job: Job) -> None:
    """Write a checkpoint of where the run stands; of the earlier ones only the best stays.

    Raises:
        FloatingPointError: the loss is not finite any more; the last good checkpoint stays.
    """
    if job.sums is not None:
        require_finite(float(job.world.sum(job.sums.loss)), job.position.done)
    moment = Moment(job.position.done, job.position.step)
    shared = {
        "method": job.config.method.name,
        "train_images": job.trained_on,
        "classes": job.classes,
        "optimiser": job.optimiser.state_dict(),
        "position": tuple(job.position),
        "best": job.best,
        "train_flops": job.train_flops,
        "world_sizes": job.world_sizes,
        "sparsity": job.sparsity.state_dict() if job.sparsity is not None else None,
        "averaged": job.averaged.state_dict() if job.averaged is not None else None,
    }
    apart, kept = job.upload is not None, {moment.name} | ({Moment(job.best[0]).name} if job.best else set())
    checkpoint.save(job.run.checkpoints, moment, job.world, job.model, shared, own(job), apart)
    job.points.saved()
    if job.upload is not None:
        job.upload.saved(kept)
    if job.world.first or apart:
        checkpoint.keep_only(job.run.checkpoints, kept)


def own(job: Job) -> dict[str, Any]:
    """What this rank alone knows, besides its running statistics."""
    running = time.perf_counter() - job.began if job.began is not None else 0.0
    return {
        "averaged": job.averaged.statistics() if job.averaged is not None else {},
        "sparsity": job.sparsity.own_state() if job.sparsity is not None else {},
        "sums": job.sums.state_dict(running) if job.sums is not None else None,
    }


def resume(job: Job) -> bool:
    """Load the newest checkpoint; False without one.

    Raises:
        ConfigError: the checkpoint does not fit this run.
    """
    path = agreed_newest(job)
    if path is None:
        return False
    device = job.world.device
    shared = checkpoint.load_shared(path, device)
    _check(job, shared, str(path))
    job.enter(Position(*shared["position"]))
    mine = _own_of(job.world, path, shared["world_size"])
    try:
        job.model.load_state_dict(shared["model"] | mine["statistics"])
        job.optimiser.load_state_dict(shared["optimiser"])
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{path}: holds another network than model={job.config.model.name}: {error}") from error
    if job.sparsity is not None:
        job.sparsity.load_state_dict(shared["sparsity"])
        job.sparsity.load_own_state(mine["sparsity"])
    if job.averaged is not None:
        job.averaged.load_state_dict(shared["averaged"], mine["averaged"])
    job.sums = Sums(**mine["sums"]) if mine["sums"] is not None else None
    job.train_flops = shared["train_flops"]
    job.world_sizes = tuple(shared.get("world_sizes", (shared["world_size"],)))
    job.best = tuple(shared["best"]) if shared["best"] is not None else None
    return True


def agreed_newest(job: Job) -> Path | None:
    """The newest checkpoint as the first rank sees it: others may be shown an older list by a network file system."""
    found = checkpoint.newest(job.run.checkpoints) if job.world.first else None
    mine = checkpoint.moment_of(found) if found is not None else Moment(-1)
    epoch, step = (int(number) for number in job.world.largest([float(mine.epoch), float(mine.step)]))
    return job.run.checkpoints / Moment(epoch, step).name if epoch >= 0 else None


def _own_of(world: World, path: Path, saved_by: int) -> dict[str, Any]:
    """This rank's part of a checkpoint, or its share of the parts of `saved_by` other ranks."""
    checkpoint.require_parts(path, saved_by)
    mine = checkpoint.load_own(path, world.rank, world.device)
    if saved_by == world.size:
        return mine
    parts = checkpoint.load_everyones(path, world.device)
    # Sums of gradients, of which the mean over ranks is used.
    sparsity = {name: checkpoint.average([part["sparsity"][name] for part in parts]) for name in mine["sparsity"]}
    sums = [part["sums"] for part in parts if part["sums"] is not None]
    return mine | {"sparsity": sparsity, "sums": dealt(sums, world.rank, world.size) if sums else None}


def _check(job: Job, shared: dict[str, Any], path: str) -> None:
    if shared["schema_version"] != checkpoint.SCHEMA_VERSION:
        version = shared["schema_version"]
        raise ConfigError(f"{path}: of checkpoint schema {version}, which can be evaluated, not trained on; fresh=true")
    if shared["method"] != job.config.method.name:
        wanted = job.config.method.name
        raise ConfigError(f"{path}: a checkpoint of method={shared['method']}, not of method={wanted}")
    _check_images(job, shared.get("train_images"), path)
    if job.world.first and shared["world_size"] != job.world.size:
        print(
            f"resuming with {job.world.size} workers a run saved by {shared['world_size']}: the same global batches, "
            "but BN statistics per worker, and CutMix, now see other shares of them",
            file=sys.stderr,
        )


def _check_images(job: Job, before: str | None, path: str) -> None:
    """Refuse to train on with other images. Who does not say which were there took the first of the split."""
    cut = job.config.train_examples if len(job.train.source) < len(job.sources["train"]) else 0
    if before == job.trained_on or (before is None and not cut):
        return
    why = f"train_examples={cut} took the first of the split" if before is None else f"set {before}"
    raise ConfigError(f"{path}: trained on other images ({why}; now {job.trained_on}); fresh=true starts anew")
