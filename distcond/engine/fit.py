"""The course of a run: stages, epochs, validation, checkpoints. It asks neither which method it runs nor who began."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from distcond.config.schema import Config
from distcond.engine.epoch import train_epoch
from distcond.engine.home import FINISHED
from distcond.engine.job import Job, Position, make_job
from distcond.engine.keep import resume, save
from distcond.engine.leg import leg_over
from distcond.engine.precision import training_numbers
from distcond.engine.progress import Progress
from distcond.engine.run_dir import CLASSES, RunDir, write_json
from distcond.engine.save_points import Stop, never
from distcond.engine.starting import init_from
from distcond.engine.summary import summary
from distcond.engine.validate import final_counts, final_work, pace_of, validate
from distcond.engine.world import World
from distcond.methods.stopwatch import Stopwatch
from distcond.results import history


def fit(config: Config, world: World, run_path: Path, attempt: int = 0, stop: Callable[[], bool] = never) -> bool:
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
    job = make_job(config, world, RunDir(run_path), attempt, stop)
    with uploading(job), training_numbers(config.precision, world.device):
        return carry_out(job)


@contextmanager
def uploading(job: Job) -> Iterator[None]:
    """Where the run lives at a URI, fetch its newest state first, and send the last words after the block."""
    if job.upload is None:
        yield
        return
    try:
        job.upload.begin()
        yield
    finally:
        job.upload.close()


def carry_out(job: Job) -> bool:
    """Go on from the newest checkpoint to the end; False if the run was stopped."""
    if job.world.first and job.classes:
        write_json(job.run.path / CLASSES, dict(enumerate(job.classes)))
    if not resume(job):
        init_from.start(job)  # before a sparse method makes its masks, which prune it
        begin_stage(job, Position())
    progress = progress_of(job)
    try:
        to_the_end(job, progress)
    except Stop:
        if not job.trained:
            save(job)
        progress.say("stopped", epoch=job.position.done, step=job.position.step - 1)
        job.world.barrier()
        return False
    return True


def progress_of(job: Job) -> Progress:
    """Tells how far the run is; silent on all ranks but the first."""
    pace, speaks = pace_of(job), job.world.first
    watch = Stopwatch(job.world.device, active=speaks)
    progress = Progress(job.run.path, pace.epochs, pace.steps, job.config.batch_size, speaks, pace, watch)
    if job.upload is not None:
        progress.note = lambda: job.upload.note if job.upload is not None else ""
    return progress


def to_the_end(job: Job, progress: Progress) -> None:
    """Train what is left, then evaluate best and last on test.

    Raises:
        Stop: the run was asked to stop; it stands where a checkpoint can be made.
    """
    while not job.trained:
        # Asked of all: a network file system may show an older word to some.
        if job.world.largest([float(leg_over(job.run.path, job.position.done))])[0]:
            raise Stop
        record = train_epoch(job, progress)
        finish_epoch(job, record, progress)
    if job.upload is not None:
        job.upload.complete()
    counts = final_counts(job, progress)
    end = summary(job, counts)
    if job.upload is not None:
        job.upload.finish(json.dumps(end, indent=1))
    elif job.world.first:
        write_json(job.run.path / FINISHED, end)
    if job.world.first:
        progress.say("finished", epoch=job.position.done)
    job.world.barrier()


def begin_stage(job: Job, position: Position) -> None:
    """Start a stage: its loss, a fresh optimiser and, for sparse methods, its masks. The best so far counts no more."""
    job.enter(position)
    job.best = None
    if job.sparsity is not None:
        job.sparsity.start(job.stage.name)


def finish_epoch(job: Job, record: dict[str, Any], progress: Progress) -> None:
    """Validate, let the masks move, step on, save, and write the epoch down."""
    config, done = job.config, job.position.done + 1
    stage_over = job.position.epoch + 1 == job.stage.epochs
    if stage_over or (config.eval.every and done % config.eval.every == 0):
        if job.points.between():
            save(job)
        score, curve = validate(job, done, progress)
        record |= curve
        if job.best is None or score > job.best[1]:
            job.best = (done, score)
        job.validated = done
        progress.pace.test = final_work(job)
    if job.sparsity is not None:
        stage_over |= job.sparsity.after_epoch(record, job.optimiser)
        record["sparsity"] = job.sparsity.report()
    job.train_flops = record["train_flops"]
    advance(job, stage_over)
    if job.world.first:
        # Before the checkpoint: a kill between the two makes a resumed run replace this record, not miss it.
        history.append(job.run.path, record)
    best_now = job.best is not None and job.best[0] == done
    if job.trained or best_now or job.points.owed or done % config.save_every == 0:
        save(job)
    elif job.upload is not None:
        job.upload.recorded()


def advance(job: Job, stage_over: bool) -> None:
    """To the next epoch, or to the start of the next stage."""
    at, job.sums = job.position, None
    if not stage_over:
        job.position = Position(at.stage, at.epoch + 1, at.done + 1)
    elif at.stage + 1 < len(job.stages):
        begin_stage(job, Position(at.stage + 1, 0, at.done + 1))
    else:
        job.position = Position(at.stage + 1, 0, at.done + 1)
