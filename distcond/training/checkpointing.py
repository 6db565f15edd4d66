"""Checkpoints of a trainer: when to save (`CheckpointPolicy`), what is saved, and how a run resumes.

The format on disk is in `distcond.runs.checkpoint`.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from distcond.distributed.running_statistics import mean_over_ranks
from distcond.distributed.world import World
from distcond.errors import ConfigError, StopRequested
from distcond.results import history
from distcond.run_layout import HISTORY_FILE
from distcond.runs import checkpoint
from distcond.runs.attempts import first_epoch
from distcond.runs.checkpoint import CheckpointStep, Position

if TYPE_CHECKING:
    from distcond.training.trainer import Trainer

_log = logging.getLogger(__name__)

#: Seconds between two agreements of the ranks.
INTERVAL = 1.0


class CheckpointPolicy:
    """Decides when to save within an epoch and when to stop, the same on every rank.

    Ranks that agreed after every step would wait for each other after every step. They agree about once a second, by a
    small reduction on the CPU that the device does not wait for. The number of steps between two agreements is part of
    what they agree on.

    Args:
        world: the ranks that have to agree.
        steps: save every `steps` steps of the run; 0 = never by steps.
        minutes: save when the last checkpoint is this old; 0 = never by time.
        stop: whether this rank was asked to stop; must be cheap, is called about once a second.
    """

    def __init__(self, world: World, steps: int, minutes: float, stop: Callable[[], bool]) -> None:
        self.world, self.steps, self.seconds, self.stop = world, steps, 60 * minutes, stop
        self.due_at_epoch_end = False  # a save by steps fell on the last step of the epoch
        self._saved_at = self._agreed_at = time.monotonic()
        self._steps_since, self._steps_between = 0, 1  # steps since the last agreement, and between two

    def after_step(self, step: int, last: bool) -> bool:
        """Return whether to save now.

        Args:
            step: number of the update in the run, counted from 1.
            last: whether it is the last step of its epoch.

        Raises:
            StopRequested: save, then stop.
        """
        by_steps = self.steps > 0 and step % self.steps == 0
        self.due_at_epoch_end |= by_steps and last
        self._steps_since += 1
        by_time = self._steps_since >= self._steps_between and self._agree()
        return by_time or (by_steps and not last)

    def poll(self) -> bool:
        """Return whether a save is due by the clock, outside of training steps. Collective.

        Raises:
            StopRequested: stop here.
        """
        return self._agree()

    def saved(self) -> None:
        """Restart the clock: a checkpoint was just written."""
        self.due_at_epoch_end, self._saved_at = False, time.monotonic()

    def _agree(self) -> bool:
        now = time.monotonic()
        steps_per_interval = self._steps_since * INTERVAL / max(now - self._agreed_at, 1e-3)
        due = 0 < self.seconds <= now - self._saved_at
        stop, save, steps = self.world.all_reduce_max([float(self.stop()), float(due), steps_per_interval])
        # At most doubled: the first steps may be the only measurement so far, and a device may lag behind its host.
        self._steps_between = max(1, min(2 * self._steps_between, int(steps)))
        self._steps_since, self._agreed_at = 0, now
        if stop:
            raise StopRequested
        return bool(save)


def never_stop() -> bool:
    """The `stop` of a run that nobody can stop."""
    return False


def save_training(trainer: Trainer) -> None:
    """Write a checkpoint of the current position. Of the earlier checkpoints only the best ones are kept.

    Raises:
        FloatingPointError: the loss is not finite; the last good checkpoint is kept.
    """
    trainer.require_finite_loss()
    at = CheckpointStep(trainer.position.done, trainer.position.step)
    kept = {at.name} | {CheckpointStep(epoch).name for epoch in trainer.best_epochs}
    local_parts = trainer.uploader is not None  # every machine has a run directory of its own
    checkpoint.save_checkpoint(
        trainer.run.checkpoints,
        at,
        trainer.world,
        trainer.model,
        trainer.state_dict(),
        trainer.rank_state(),
        local_parts,
        history.as_text(trainer.run.path) if trainer.world.first else "",
    )
    trainer.checkpoint_policy.saved()
    if trainer.uploader is not None:
        trainer.uploader.upload_checkpoints(kept)
    if trainer.world.first or local_parts:
        checkpoint.delete_all_but(trainer.run.checkpoints, kept)


def resume_training(trainer: Trainer) -> bool:
    """Load the latest checkpoint; returns False if there is none.

    Raises:
        ConfigError: the checkpoint does not fit this run.
    """
    path = latest_on_all_ranks(trainer)
    if path is None:
        return False
    shared = checkpoint.load_shared(path, trainer.world.device)
    _check_compatible(trainer, shared, path)
    rank_state = _load_rank_state(trainer.world, path, shared["world_size"])
    trainer.enter(Position(*shared["position"]))
    try:
        trainer.load_state_dict(shared, rank_state)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{path}: holds another network than model={trainer.config.model.name}: {error}") from error
    if trainer.world.first:
        _check_history(trainer, path)
    return True


def _check_history(trainer: Trainer, path: Path) -> None:
    """Restore what the history lacks up to a checkpoint from the checkpoint's copy, and log it.

    Raises:
        ConfigError: the checkpoint, of an older version, has no copy, and an epoch is missing.
    """
    run, done, copy = trainer.run.path, trainer.position.done, path / HISTORY_FILE
    missing = history.restore(run, copy, done)
    if missing:
        _log.warning(
            "%s: %d of %d epochs were missing and are restored from %s", run / HISTORY_FILE, len(missing), done, path
        )
    if not copy.exists():
        history.require_epochs(run, first_epoch(run), done)


def latest_on_all_ranks(trainer: Trainer) -> Path | None:
    """The latest checkpoint as rank 0 sees it: a network file system may show other ranks an older listing."""
    latest = checkpoint.latest(trainer.run.checkpoints) if trainer.world.first else None
    at = checkpoint.step_of(latest) if latest is not None else CheckpointStep(-1)
    epoch, step = (int(number) for number in trainer.world.all_reduce_max([float(at.epoch), float(at.step)]))
    return trainer.run.checkpoints / CheckpointStep(epoch, step).name if epoch >= 0 else None


def _load_rank_state(world: World, path: Path, saved_by: int) -> dict[str, Any]:
    """This rank's part of a checkpoint; resharded, if another number of ranks wrote it."""
    checkpoint.require_all_ranks(path, saved_by)
    own = checkpoint.load_rank_state(path, world.rank, world.device)
    if saved_by == world.size:
        return own
    parts = checkpoint.load_all_rank_states(path, world.device)
    # Sums of gradients, of which the mean over ranks is used.
    sparsity = {name: mean_over_ranks([part["sparsity"][name] for part in parts]) for name in own["sparsity"]}
    sums = [part["sums"] for part in parts if part["sums"] is not None]
    return own | {"sparsity": sparsity, "sums": reshard(sums, world.rank, world.size) if sums else None}


def reshard(parts: Sequence[Mapping[str, Any]], rank: int, size: int) -> dict[str, Any]:
    """The sums with which `rank` of `size` resumes, from the `parts` of the ranks that saved; totals are preserved."""
    own, first = parts[rank::size], parts[0]
    loss = torch.stack([part["loss"] for part in own]).sum() if own else torch.zeros_like(first["loss"])
    tally = torch.stack([part["tally"] for part in own]).sum(0) if own else torch.zeros_like(first["tally"])
    spent = [sum(part["spent"][width] for part in own) for width in range(len(first["spent"]))]
    # A step's loss is the mean over its ranks, of which there are more or fewer now.
    return {**first, "loss": loss * (size / len(parts)), "tally": tally, "spent": spent}


def _check_compatible(trainer: Trainer, shared: dict[str, Any], path: Path) -> None:
    if shared["schema_version"] != checkpoint.SCHEMA_VERSION:
        version = shared["schema_version"]
        raise ConfigError(f"{path}: checkpoint schema {version} can be evaluated but not resumed; set fresh=true")
    if shared["method"] != trainer.config.method.name:
        method = trainer.config.method.name
        raise ConfigError(f"{path}: a checkpoint of method={shared['method']}, not of method={method}")
    _check_train_images(trainer, shared.get("train_images"), path)
    if trainer.world.first and shared["world_size"] != trainer.world.size:
        print(
            f"resuming with {trainer.world.size} workers; the checkpoint was saved by {shared['world_size']}: global "
            "batches are the same, but BN statistics and CutMix work on per-worker shares, which change",
            file=sys.stderr,
        )


def _check_train_images(trainer: Trainer, saved: str | None, path: Path) -> None:
    """Refuse to resume with other training images. A checkpoint without a digest used the first of the split."""
    limit = trainer.config.train_examples if len(trainer.train.source) < len(trainer.sources["train"]) else 0
    if saved == trainer.train_images_digest or (saved is None and not limit):
        return
    there = f"train_examples={limit} took the first of the split" if saved is None else f"set {saved}"
    raise ConfigError(
        f"{path}: trained on other images ({there}; now {trainer.train_images_digest}); fresh=true starts anew"
    )
