"""The training loop of a run: stages, epochs, validation, checkpoints, and the record of the finished run.

It knows neither the method nor the launcher.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distcond.atomic_io import write_json
from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.evaluation.rows import Count, blend_of
from distcond.init_from import initialise
from distcond.methods.stopwatch import Stopwatch
from distcond.operating_point import OperatingPoint
from distcond.results import history
from distcond.run_layout import CLASSES_FILE, FINISHED_FILE
from distcond.runs.build import training_precision
from distcond.runs.run_dir import RunDir
from distcond.training.checkpoint_policy import StopRequested, epoch_limit_reached, never_stop
from distcond.training.checkpointing import resume_training, save_training
from distcond.training.epoch import train_epoch
from distcond.training.progress import ProgressWriter
from distcond.training.trainer import Position, Trainer, build_trainer
from distcond.training.validate import final_counts, final_work, pace_of, validate


def fit(config: Config, world: World, run_path: Path, attempt: int = 0, stop: Callable[[], bool] = never_stop) -> bool:
    """Train from the last checkpoint (or the start) to the end, then evaluate best and last on test.

    The same function under plain Python, torchrun and Ray Train; every rank calls it with its own `world`.

    Args:
        config: the run.
        world: this rank among the others.
        run_path: the run's directory.
        attempt: how often its workers were started before.
        stop: looked at about once a second; True on any rank makes all of them save where they are and return.

    Returns:
        Whether the run went to its end; otherwise it was stopped.
    """
    trainer = build_trainer(config, world, RunDir(run_path), attempt, stop)
    with uploading(trainer), training_precision(config.precision, world.device):
        return resume_and_train(trainer)


@contextmanager
def uploading(trainer: Trainer) -> Iterator[None]:
    """Where the run lives at a URI, fetch its newest state first, and send the last words after the block."""
    if trainer.upload is None:
        yield
        return
    try:
        trainer.upload.begin()
        yield
    finally:
        trainer.upload.close()


def resume_and_train(trainer: Trainer) -> bool:
    """Go on from the newest checkpoint to the end; False if the run was stopped."""
    if trainer.world.first and trainer.classes:
        write_json(trainer.run.path / CLASSES_FILE, dict(enumerate(trainer.classes)))
    if not resume_training(trainer):
        # Before a sparse method makes its masks, which prune these weights.
        initialise.apply_init_from(trainer.model, trainer.config, trainer.run, trainer.world)
        begin_stage(trainer, Position())
    progress = make_progress(trainer)
    try:
        train_and_test(trainer, progress)
    except StopRequested:
        if not trainer.trained:
            save_training(trainer)
        progress.write("stopped", epoch=trainer.position.done, step=trainer.position.step - 1)
        trainer.world.barrier()
        return False
    return True


def make_progress(trainer: Trainer) -> ProgressWriter:
    """Tells how far the run is; silent on all ranks but the first."""
    pace, speaks = pace_of(trainer), trainer.world.first
    watch = Stopwatch(trainer.world.device, active=speaks)
    progress = ProgressWriter(trainer.run.path, pace.epochs, pace.steps, trainer.config.batch_size, speaks, pace, watch)
    if trainer.upload is not None:
        progress.note = lambda: trainer.upload.note if trainer.upload is not None else ""
    return progress


def train_and_test(trainer: Trainer, progress: ProgressWriter) -> None:
    """Train what is left, then evaluate best and last on test.

    Raises:
        Stop: the run was asked to stop; it stands where a checkpoint can be made.
    """
    while not trainer.trained:
        # Asked of all: a network file system may show an older word to some.
        if trainer.world.all_reduce_max([float(epoch_limit_reached(trainer.run.path, trainer.position.done))])[0]:
            raise StopRequested
        record = train_epoch(trainer, progress)
        finish_epoch(trainer, record, progress)
    if trainer.upload is not None:
        trainer.upload.pull_missing_parts()
    counts = final_counts(trainer, progress)
    end = run_summary(trainer, counts)
    if trainer.upload is not None:
        trainer.upload.finish(json.dumps(end, indent=1))
    elif trainer.world.first:
        write_json(trainer.run.path / FINISHED_FILE, end)
    if trainer.world.first:
        progress.write("finished", epoch=trainer.position.done)
    trainer.world.barrier()


def begin_stage(trainer: Trainer, position: Position) -> None:
    """Start a stage: its loss, a fresh optimiser and, for sparse methods, its masks. The best so far counts no more."""
    trainer.enter(position)
    trainer.best = None
    if trainer.sparsity is not None:
        trainer.sparsity.start(trainer.stage.name)


def finish_epoch(trainer: Trainer, record: dict[str, Any], progress: ProgressWriter) -> None:
    """Validate, let the masks move, step on, save, and write the epoch down."""
    config, done = trainer.config, trainer.position.done + 1
    stage_over = trainer.position.epoch + 1 == trainer.stage.epochs
    if stage_over or (config.eval.every and done % config.eval.every == 0):
        if trainer.points.between():
            save_training(trainer)
        score, curve = validate(trainer, done, progress)
        record |= curve
        if trainer.best is None or score > trainer.best[1]:
            trainer.best = (done, score)
        trainer.validated = done
        progress.pace.test = final_work(trainer)
    if trainer.sparsity is not None:
        stage_over |= trainer.sparsity.after_epoch(record, trainer.optimiser)
        record["sparsity"] = trainer.sparsity.report()
    trainer.train_flops = record["train_flops"]
    advance(trainer, stage_over)
    if trainer.world.first:
        # Before the checkpoint: a kill between the two makes a resumed run replace this record, not miss it.
        history.append(trainer.run.path, record)
    best_now = trainer.best is not None and trainer.best[0] == done
    if trainer.trained or best_now or trainer.points.due_at_epoch_end or done % config.save_every == 0:
        save_training(trainer)
    elif trainer.upload is not None:
        trainer.upload.recorded()


def advance(trainer: Trainer, stage_over: bool) -> None:
    """To the next epoch, or to the start of the next stage."""
    at, trainer.sums = trainer.position, None
    if not stage_over:
        trainer.position = Position(at.stage, at.epoch + 1, at.done + 1)
    elif at.stage + 1 < len(trainer.stages):
        begin_stage(trainer, Position(at.stage + 1, 0, at.done + 1))
    else:
        trainer.position = Position(at.stage + 1, 0, at.done + 1)


def run_summary(trainer: Trainer, counts: dict[str, list[Count]]) -> dict[str, Any]:
    """Epochs, parameters, FLOPs and gaps of a run, as plain values.

    `sa` and `ra` are those of the best checkpoint on test. `train_flops` is integrated over the density the network
    had; `flops` is one image at one operating point. The gaps are differences of RA in [0, 1] under the attack of the
    final sweep (Rice et al. 2020; Sparsity Winning Twice, arXiv 2202.09844): robust overfitting = best - last, robust
    generalisation = training images - test, both at last.
    """
    found = {name: {count.point: count for count in points} for name, points in counts.items()}
    return {
        "epochs": trainer.position.done,
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
        "train_flops": trainer.train_flops,
        "points": [_point(at, found) for at in found["last"]],
    }


def _point(at: OperatingPoint, found: dict[str, dict[OperatingPoint, Count]]) -> dict[str, Any]:
    last, best, train = found["last"][at], found["best"][at], found.get("train", {}).get(at)
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
