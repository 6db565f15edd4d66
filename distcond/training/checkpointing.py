"""Saves the state of a trainer as a checkpoint, and resumes from the latest one."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from distcond.distributed.running_statistics import mean_over_ranks
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.runs import checkpoint
from distcond.runs.checkpoint import CheckpointStep
from distcond.training.epoch_sums import EpochAccumulator, require_finite, reshard
from distcond.training.trainer import Position, Trainer


def save_training(trainer: Trainer) -> None:
    """Write a checkpoint of where the run stands; of the earlier ones only the best stays.

    Raises:
        FloatingPointError: the loss is not finite any more; the last good checkpoint stays.
    """
    if trainer.sums is not None:
        require_finite(float(trainer.world.sum(trainer.sums.loss)), trainer.position.done)
    moment = CheckpointStep(trainer.position.done, trainer.position.step)
    shared = {
        "method": trainer.config.method.name,
        "train_images": trainer.trained_on,
        "classes": trainer.classes,
        "optimiser": trainer.optimiser.state_dict(),
        "position": tuple(trainer.position),
        "best": trainer.best,
        "train_flops": trainer.train_flops,
        "world_sizes": trainer.world_sizes,
        "sparsity": trainer.sparsity.state_dict() if trainer.sparsity is not None else None,
        "averaged": trainer.averaged.state_dict() if trainer.averaged is not None else None,
    }
    apart, kept = (
        trainer.upload is not None,
        {moment.name} | ({CheckpointStep(trainer.best[0]).name} if trainer.best else set()),
    )
    checkpoint.save_checkpoint(
        trainer.run.checkpoints, moment, trainer.world, trainer.model, shared, rank_state(trainer), apart
    )
    trainer.points.saved()
    if trainer.upload is not None:
        trainer.upload.saved(kept)
    if trainer.world.first or apart:
        checkpoint.delete_all_but(trainer.run.checkpoints, kept)


def rank_state(trainer: Trainer) -> dict[str, Any]:
    """What this rank alone knows, besides its running statistics."""
    running = time.perf_counter() - trainer.began if trainer.began is not None else 0.0
    return {
        "averaged": trainer.averaged.statistics() if trainer.averaged is not None else {},
        "sparsity": trainer.sparsity.own_state() if trainer.sparsity is not None else {},
        "sums": trainer.sums.state_dict(running) if trainer.sums is not None else None,
    }


def resume_training(trainer: Trainer) -> bool:
    """Load the newest checkpoint; False without one.

    Raises:
        ConfigError: the checkpoint does not fit this run.
    """
    path = latest_on_all_ranks(trainer)
    if path is None:
        return False
    device = trainer.world.device
    shared = checkpoint.load_shared(path, device)
    _check(trainer, shared, str(path))
    trainer.enter(Position(*shared["position"]))
    mine = _own_of(trainer.world, path, shared["world_size"])
    try:
        trainer.model.load_state_dict(shared["model"] | mine["statistics"])
        trainer.optimiser.load_state_dict(shared["optimiser"])
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{path}: holds another network than model={trainer.config.model.name}: {error}") from error
    if trainer.sparsity is not None:
        trainer.sparsity.load_state_dict(shared["sparsity"])
        trainer.sparsity.load_own_state(mine["sparsity"])
    if trainer.averaged is not None:
        trainer.averaged.load_state_dict(shared["averaged"], mine["averaged"])
    trainer.sums = EpochAccumulator(**mine["sums"]) if mine["sums"] is not None else None
    trainer.train_flops = shared["train_flops"]
    trainer.world_sizes = tuple(shared.get("world_sizes", (shared["world_size"],)))
    trainer.best = tuple(shared["best"]) if shared["best"] is not None else None
    return True


def latest_on_all_ranks(trainer: Trainer) -> Path | None:
    """The newest checkpoint as the first rank sees it: others may be shown an older list by a network file system."""
    found = checkpoint.latest(trainer.run.checkpoints) if trainer.world.first else None
    mine = checkpoint.step_of(found) if found is not None else CheckpointStep(-1)
    epoch, step = (int(number) for number in trainer.world.all_reduce_max([float(mine.epoch), float(mine.step)]))
    return trainer.run.checkpoints / CheckpointStep(epoch, step).name if epoch >= 0 else None


def _own_of(world: World, path: Path, saved_by: int) -> dict[str, Any]:
    """This rank's part of a checkpoint, or its share of the parts of `saved_by` other ranks."""
    checkpoint.require_all_ranks(path, saved_by)
    mine = checkpoint.load_rank_state(path, world.rank, world.device)
    if saved_by == world.size:
        return mine
    parts = checkpoint.load_all_rank_states(path, world.device)
    # Sums of gradients, of which the mean over ranks is used.
    sparsity = {name: mean_over_ranks([part["sparsity"][name] for part in parts]) for name in mine["sparsity"]}
    sums = [part["sums"] for part in parts if part["sums"] is not None]
    return mine | {"sparsity": sparsity, "sums": reshard(sums, world.rank, world.size) if sums else None}


def _check(trainer: Trainer, shared: dict[str, Any], path: str) -> None:
    if shared["schema_version"] != checkpoint.SCHEMA_VERSION:
        version = shared["schema_version"]
        raise ConfigError(f"{path}: of checkpoint schema {version}, which can be evaluated, not trained on; fresh=true")
    if shared["method"] != trainer.config.method.name:
        wanted = trainer.config.method.name
        raise ConfigError(f"{path}: a checkpoint of method={shared['method']}, not of method={wanted}")
    _check_images(trainer, shared.get("train_images"), path)
    if trainer.world.first and shared["world_size"] != trainer.world.size:
        print(
            f"resuming with {trainer.world.size} workers a run saved by {shared['world_size']}: the same global "
            "batches, but BN statistics per worker, and CutMix, now see other shares of them",
            file=sys.stderr,
        )


def _check_images(trainer: Trainer, before: str | None, path: str) -> None:
    """Refuse to train on with other images. Who does not say which were there took the first of the split."""
    cut = trainer.config.train_examples if len(trainer.train.source) < len(trainer.sources["train"]) else 0
    if before == trainer.trained_on or (before is None and not cut):
        return
    why = f"train_examples={cut} took the first of the split" if before is None else f"set {before}"
    raise ConfigError(f"{path}: trained on other images ({why}; now {trainer.trained_on}); fresh=true starts anew")
