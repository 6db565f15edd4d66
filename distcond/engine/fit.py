"""The training loop. It never asks which method it runs, nor who started it."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from distcond.config.schema import Config
from distcond.engine import checkpoint
from distcond.engine.job import Job, make_job
from distcond.engine.optimiser import learning_rate, set_learning_rate
from distcond.engine.progress import Progress
from distcond.engine.run_dir import RunDir, write_json
from distcond.engine.validate import test_rows, validate
from distcond.engine.world import World
from distcond.errors import ConfigError
from distcond.methods.draws import Draws
from distcond.registry import lookup
from distcond.results import history
from distcond.seeding import generator, key


def fit(config: Config, world: World, run_path: Path, attempt: int = 0) -> None:
    """Train from the last checkpoint (or the start) to the end, then evaluate best and last on test.

    The same function under plain Python, torchrun and Ray Train; every rank calls it with its own `world`.
    """
    job = make_job(config, world, RunDir(run_path), attempt)
    first_epoch = resume(job)
    progress = Progress(run_path, config.epochs, job.train.steps, config.batch_size, world.first)
    for epoch in range(first_epoch, config.epochs):
        record = train_epoch(job, epoch, progress)
        finish_epoch(job, epoch, record, progress)
    progress.say("test")
    rows = test_rows(job)
    if world.first:
        write_json(run_path / "finished.json", {"epochs": config.epochs, "rows": len(rows)})
        progress.say("finished")
    world.barrier()


def train_epoch(job: Job, epoch: int, progress: Progress) -> dict[str, Any]:
    """One pass over the training images; its mean loss, counts, rate and speed."""
    config, began = job.config, time.perf_counter()
    loss_sum, tally = torch.zeros((), device=job.world.device), torch.zeros(4, device=job.world.device)
    rate = 0.0
    job.model.train()
    for batch in job.train.epoch(epoch):
        rate = learning_rate(config.optim, epoch, batch.step, job.train.steps, config.epochs)
        loss, counts = train_step(job, epoch, batch.step, batch.x, batch.y, rate)
        loss_sum += loss
        tally += counts
        progress.step(epoch, batch.step, loss)
    totals = job.world.sum(torch.cat([loss_sum[None] / (job.world.size * job.train.steps), tally])).tolist()
    if not math.isfinite(totals[0]):
        raise FloatingPointError(
            f"epoch {epoch}: the loss is {totals[0]}; try a lower optim.lr or precision.train=float32"
        )
    seconds = time.perf_counter() - began
    return {
        "epoch": epoch + 1,
        "step": (epoch + 1) * job.train.steps,
        "train_loss": totals[0],
        "train_sa": totals[1] / totals[2] if totals[2] else None,
        "train_ra": totals[3] / totals[4] if totals[4] else None,
        "lr": rate,
        "seconds": seconds,
        "images_per_second": job.train.steps * config.batch_size / seconds,
    }


def train_step(job: Job, epoch: int, step: int, x: Tensor, y: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """One optimiser update; loss (0-d) and counts (4,) of this rank, still on the device."""
    # Whatever draws from the global generator (dropout) becomes a function of the step: nothing to restore.
    torch.manual_seed(key(job.config.seed, "global", epoch, step, job.world.rank))
    set_learning_rate(job.optimiser, rate)
    outcome = job.step(x, y, draws(job, epoch, step))
    job.optimiser.zero_grad(set_to_none=True)
    outcome.loss.backward()
    job.optimiser.step()
    return outcome.loss.detach(), outcome.tally


def draws(job: Job, epoch: int, step: int) -> Draws:
    """The randomness of one step, lam included: drawn for the global batch, ascending."""
    config = job.config
    source = generator(config.seed, "lam", epoch, step)
    lam = lookup("sampler", config.sampler.name).draw(config.sampler, config.batch_size, source)
    return Draws(config.seed, epoch, step, job.world.rank, job.world.size, lam.sort().values)


def finish_epoch(job: Job, epoch: int, record: dict[str, Any], progress: Progress) -> None:
    """Validate, save, keep best and last, and write the epoch down."""
    config, done = job.config, epoch + 1
    last = done == config.epochs
    if last or (config.eval.every and done % config.eval.every == 0):
        progress.say("validate", epoch=epoch)
        score, curve = validate(job, done)
        record |= curve
        if job.best is None or score > job.best[1]:
            job.best = (done, score)
    best_now = job.best is not None and job.best[0] == done
    if last or best_now or done % config.save_every == 0:
        save(job, done)
    if job.world.first:
        history.append(job.run.path, record)


def save(job: Job, done: int) -> None:
    """Write the checkpoint of `done` epochs; of the earlier ones only the best stays."""
    shared = {"optimiser": job.optimiser.state_dict(), "best": job.best, "seed": job.config.seed}
    checkpoint.save(job.run.checkpoints, done, job.world, job.model, shared)
    if job.world.first:
        checkpoint.keep_only(job.run.checkpoints, {done} | ({job.best[0]} if job.best else set()))


def resume(job: Job) -> int:
    """Load the newest checkpoint; the number of epochs already done (0 without one).

    Raises:
        ConfigError: the checkpoint does not fit this run.
    """
    path = checkpoint.newest(job.run.checkpoints)
    if path is None:
        return 0
    shared = checkpoint.load_shared(path, job.world.device)
    try:
        job.model.load_state_dict(shared["model"] | checkpoint.load_statistics(path, job.world.rank, job.world.device))
        job.optimiser.load_state_dict(shared["optimiser"])
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{path}: holds another network than {job.config.model.name}: {error}") from error
    job.best = tuple(shared["best"]) if shared["best"] is not None else None
    if job.world.first and shared["world_size"] != job.world.size:
        print(f"resuming with {job.world.size} workers a run saved by {shared['world_size']}: "
              "same global batches, but BN statistics per worker now cover other shares of them", flush=True)  # fmt: skip
    return int(shared["epoch"])
