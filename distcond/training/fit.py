"""The training loop of a run: stages, epochs, validation, checkpoints, and the summary of the finished run.

It depends neither on the method nor on the launcher.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distcond.atomic_io import write_json
from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.errors import StopRequested
from distcond.evaluation.rows import Count, blend_of
from distcond.init_from import initialise
from distcond.methods.stopwatch import Stopwatch
from distcond.operating_point import OperatingPoint
from distcond.results import history
from distcond.run_layout import CLASSES_FILE, FINISHED_FILE
from distcond.runs.build import training_precision
from distcond.runs.checkpoint import CheckpointStep, Position, latest, step_of
from distcond.runs.run_dir import RunDir
from distcond.training import selection
from distcond.training.build_trainer import build_trainer
from distcond.training.checkpointing import never_stop, resume_training, save_training
from distcond.training.epoch import train_epoch
from distcond.training.progress import ProgressWriter
from distcond.training.trainer import Trainer
from distcond.training.validate import build_eta, final_counts, final_work, validate

#: Seconds between two looks whether a run is still held.
HOLD_SECONDS = 0.1


def never_hold(done: int) -> bool:
    """The `hold` of a run whose epochs follow each other at once."""
    return False


def fit(
    config: Config,
    world: World,
    run_path: Path,
    attempt: int = 0,
    stop: Callable[[], bool] = never_stop,
    hold: Callable[[int], bool] = never_hold,
) -> bool:
    """Train from the latest checkpoint, or from the start, to the end; then evaluate best and last on test.

    The same function under plain Python, torchrun and Ray Train; every rank calls it with its own `world`.

    Args:
        config: the run.
        world: this rank among the others.
        run_path: the run directory.
        attempt: how often the workers were started before.
        stop: polled about once a second; True on any rank makes all ranks save a checkpoint and return.
        hold: called with the number of completed epochs before the next one begins, which waits while it is True on any
            rank.

    Returns:
        True if the run finished, False if it was stopped.
    """
    with begin_training(config, world, run_path, attempt, stop) as training:
        try:
            for _ in training.epochs(hold):
                pass
        except StopRequested:
            return False
    return True


@contextmanager
def begin_training(
    config: Config, world: World, run_path: Path, attempt: int, stop: Callable[[], bool] = never_stop
) -> Iterator[Training]:
    """The run at its latest checkpoint, or at its start; within the block it is trained by `Training.epochs`.

    Args:
        config: see `fit`, as the others.
        world: ...
        run_path: ...
        attempt: ...
        stop: ...
    """
    trainer = build_trainer(config, world, RunDir(run_path), attempt, stop)
    with uploading(trainer), training_precision(config.precision, world.device):
        resume_or_initialise(trainer)
        yield Training(trainer, make_progress(trainer))


class Training:
    """A run on one rank, trained epoch by epoch."""

    def __init__(self, trainer: Trainer, progress: ProgressWriter) -> None:
        self.trainer, self.progress = trainer, progress

    @property
    def done(self) -> int:
        """Completed epochs."""
        return self.trainer.position.done

    def epochs(self, hold: Callable[[int], bool] = never_hold) -> Iterator[int]:
        """Train the remaining epochs; yields the number of completed ones after each.

        The last one is yielded after the final evaluation.

        Raises:
            StopRequested: the run was asked to stop; a checkpoint was saved.
        """
        try:
            yield from train_and_test(self.trainer, self.progress, hold)
        except StopRequested:
            trainer = self.trainer
            if not trainer.trained:
                save_training(trainer)
            self.progress.write("stopped", epoch=trainer.position.done, step=trainer.position.step - 1)
            trainer.world.barrier()
            raise

    def save(self) -> None:
        """Write a checkpoint of the current position, unless there is one. Collective."""
        at, last = self.trainer.position, latest(self.trainer.run.checkpoints)
        if last is None or step_of(last) != CheckpointStep(at.done, at.step):
            save_training(self.trainer)


@contextmanager
def uploading(trainer: Trainer) -> Iterator[None]:
    """For a run at a URI: pull its latest state before the block, and upload the last progress after it."""
    if trainer.uploader is None:
        yield
        return
    try:
        trainer.uploader.start()
        yield
    finally:
        trainer.uploader.close()


def resume_or_initialise(trainer: Trainer) -> None:
    """Load the latest checkpoint, or begin with initial weights."""
    if trainer.world.first and trainer.classes:
        write_json(trainer.run.path / CLASSES_FILE, dict(enumerate(trainer.classes)))
    if not resume_training(trainer):
        # Before a sparse method makes its masks: they prune these weights.
        initialise.apply_init_from(trainer.model, trainer.config, trainer.run, trainer.world)
        trainer.shares.load_state_dict(())
        begin_stage(trainer, Position())
        if trainer.config.epochs == 0:
            trainer.position = Position(len(trainer.stages))
            save_training(trainer)


def make_progress(trainer: Trainer) -> ProgressWriter:
    """The progress writer of a run. Only rank 0 writes."""
    pace, active = build_eta(trainer), trainer.world.first
    watch = Stopwatch(trainer.world.device, active=active)
    progress = ProgressWriter(trainer.run.path, pace.epochs, pace.steps, trainer.config.batch_size, active, pace, watch)
    if trainer.uploader is not None:
        progress.note = lambda: trainer.uploader.note if trainer.uploader is not None else ""
    return progress


def train_and_test(
    trainer: Trainer, progress: ProgressWriter, hold: Callable[[int], bool] = never_hold
) -> Iterator[int]:
    """Train the remaining epochs, then evaluate best and last on test; yields the number of completed epochs.

    Raises:
        StopRequested: the run was asked to stop, at a place where a checkpoint can be saved.
    """
    while not trainer.trained:
        wait_while_held(trainer, hold)
        record = train_epoch(trainer, progress)
        finish_epoch(trainer, record, progress)
        if not trainer.trained:
            yield trainer.position.done
    finish_run(trainer, progress)
    yield trainer.position.done


def wait_while_held(trainer: Trainer, hold: Callable[[int], bool]) -> None:
    """Wait until no rank holds the run any more. Collective.

    Raises:
        StopRequested: the run was asked to stop meanwhile.
    """
    while trainer.world.all_reduce_max([float(hold(trainer.position.done))])[0]:
        trainer.checkpoint_policy.poll()
        time.sleep(HOLD_SECONDS)


def finish_run(trainer: Trainer, progress: ProgressWriter) -> None:
    """Evaluate best and last on test, and write the summary.

    Raises:
        StopRequested: the run was asked to stop.
    """
    if trainer.uploader is not None:
        trainer.uploader.pull_missing_parts()
    counts = final_counts(trainer, progress)
    summary = run_summary(trainer, counts)
    if trainer.uploader is not None:
        trainer.uploader.finish(json.dumps(summary, indent=1))
    elif trainer.world.first:
        write_json(trainer.run.path / FINISHED_FILE, summary)
    if trainer.world.first:
        progress.write("finished", epoch=trainer.position.done)
    trainer.world.barrier()


def begin_stage(trainer: Trainer, position: Position) -> None:
    """Start a stage: its loss, a fresh optimiser and, for sparse methods, its masks. Resets the best checkpoints."""
    trainer.enter(position)
    trainer.best, trainer.winners = None, {}
    if trainer.sparsity is not None:
        trainer.sparsity.start(trainer.stage.name)


def finish_epoch(trainer: Trainer, record: dict[str, Any], progress: ProgressWriter) -> None:
    """Validate, update the masks, advance the position, record the epoch in the history, and save."""
    config, done = trainer.config, trainer.position.done + 1
    stage_over = trainer.position.epoch + 1 == trainer.stage.epochs
    if stage_over or (config.eval.every and done % config.eval.every == 0):
        if trainer.checkpoint_policy.poll():
            save_training(trainer)
        record |= validate(trainer, done, progress)
        if trainer.best is None or record["val_score"] > trainer.best[1]:
            trainer.best = (done, record["val_score"])
        selection.update(trainer.winners, selection.winners(config.eval.select, record["val"], done))
        trainer.validated = done
        progress.pace.test = final_work(trainer)
    if trainer.sparsity is not None:
        stage_over |= trainer.sparsity.after_epoch(record, trainer.optimiser)
        record["sparsity"] = trainer.sparsity.report()
    trainer.train_flops = record["train_flops"]
    advance(trainer, stage_over)
    if trainer.world.first:
        # Before the checkpoint: after a kill between the two, a resumed run replaces this record, and none is missing.
        history.append(trainer.run.path, record)
    is_best = done in trainer.best_epochs
    if trainer.trained or is_best or trainer.checkpoint_policy.due_at_epoch_end or done % config.save_every == 0:
        save_training(trainer)
    elif trainer.uploader is not None:
        trainer.uploader.upload_records()


def advance(trainer: Trainer, stage_over: bool) -> None:
    """Advance the position to the next epoch, or to the start of the next stage."""
    at, trainer.accumulator = trainer.position, None
    if not stage_over:
        trainer.position = Position(at.stage, at.epoch + 1, at.done + 1)
    elif at.stage + 1 < len(trainer.stages):
        begin_stage(trainer, Position(at.stage + 1, 0, at.done + 1))
    else:
        trainer.position = Position(at.stage + 1, 0, at.done + 1)


def run_summary(trainer: Trainer, counts: dict[str, list[Count]]) -> dict[str, Any]:
    """Epochs, parameters, FLOPs and gaps of a finished run, as plain values.

    `sa` and `ra` are those of the best checkpoint on test; with `eval.select=each`, `each` has those of the point's own
    best checkpoints and their epochs. `train_flops` is integrated over the density during training; `flops` is one
    image at one operating point. The gaps are differences of RA in [0, 1] under the attack of the final sweep (Rice et
    al. 2020; Sparsity Winning Twice, arXiv 2202.09844): robust overfitting = best - last on test, robust generalisation
    = training images - test at last.
    """
    by_point = {name: {count.point: count for count in points} for name, points in counts.items()}
    return {
        "epochs": trainer.position.done,
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "train_flops": trainer.train_flops,
        "points": [
            _point(at, by_point) | _each(trainer, number, by_point) for number, at in enumerate(by_point["last"])
        ],
    }


def _each(trainer: Trainer, number: int, by_point: dict[str, dict[OperatingPoint, Count]]) -> dict[str, Any]:
    """Accuracies and epochs of an operating point's own best checkpoints; nothing unless `eval.select=each`."""
    if "each" not in by_point:
        return {}
    count = list(by_point["each"].values())[number]
    epochs = {f"{metric}_epoch": trainer.winners[f"{metric}/{number}"].epoch for metric in selection.METRICS}
    return {"each": {"sa": count.sa_correct / count.num_examples, "ra": _ra(count), **epochs}}


def _point(at: OperatingPoint, by_point: dict[str, dict[OperatingPoint, Count]]) -> dict[str, Any]:
    last, best, train = by_point["last"][at], by_point["best"][at], by_point.get("train", {}).get(at)
    return {
        "lam": at.lam,
        "width": at.width,
        **blend_of(at),
        "sa": best.sa_correct / best.num_examples,
        "ra": _ra(best),
        "flops": last.cost.flops,
        "dense_flops": last.cost.dense_flops,
        "nonzeros": last.cost.nonzeros,
        "density": last.cost.density,
        "robust_overfitting_gap": _ra(best) - _ra(last),
        "robust_generalization_gap": None if train is None else _ra(train) - _ra(last),
    }


def _ra(count: Count) -> float:
    return count.ra_correct / count.num_examples
