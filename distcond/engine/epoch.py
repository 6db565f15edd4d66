"""One pass over the training images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from distcond.data.loader import Batch
from distcond.engine.cost import cost_at
from distcond.engine.grid import lam_grid
from distcond.engine.job import Job
from distcond.engine.keep import save
from distcond.engine.optimiser import learning_rate, set_learning_rate
from distcond.engine.progress import Progress
from distcond.engine.sums import Sums, require_finite
from distcond.methods.draws import Draws
from distcond.methods.passes import evaluating
from distcond.methods.stopwatch import Stopwatch
from distcond.registry import lookup
from distcond.seeding import generator, key


def train_epoch(job: Job, progress: Progress) -> dict[str, Any]:
    """Train to the end of the epoch; its mean loss, accuracies on the rows seen, learning rate and speed.

    Raises:
        FloatingPointError: the loss is not finite any more.
        Stop: the run was asked to stop in the middle of it.
    """
    steps, job.began = job.train.steps, time.perf_counter()
    if job.sums is None:
        job.sums = Sums.none(forward_flops(job), job.world.device)
    job.world_sizes = tuple(sorted({*job.world_sizes, job.world.size}))
    job.model.train()
    watch = job.bare_step.watch = progress.watch
    watch.reset()
    progress.begin_epoch(job.position.step)
    if job.position.epoch == job.position.step == 0:
        progress.pace.begin_stage()
    with closing(job.train.epoch(job.position.done, job.position.step)) as batches:
        for batch in waited_for(batches, watch):
            rate = learning_rate(job.stage.optim, job.position.epoch, batch.step, steps, job.stage.epochs)
            loss, counts = train_step(job, batch.step, batch.x, batch.y, rate)
            job.sums.add(loss, counts, job.bare_step.spent, rate)
            watch.end()
            progress.pace.step_work = sum(job.bare_step.spent.values())
            progress.step(job.position.done, batch.step, loss)
            job.position = job.position._replace(step=batch.step + 1)
            if job.points.after_step(job.position.done * steps + batch.step + 1, batch.step + 1 == steps):
                save(job)
    job.sums.seconds, job.began = job.sums.seconds + time.perf_counter() - job.began, None
    record, shares = told(job, job.sums), watch.shares()
    return record if shares is None else record | {"shares": shares}


def waited_for(batches: Iterator[Batch], watch: Stopwatch) -> Iterator[Batch]:
    """The same batches; each begins a step on the watch."""
    while True:
        watch.begin()
        with watch.part("data"):
            batch = next(batches, None)
        if batch is None:
            watch.end()
            return
        yield batch


def told(job: Job, sums: Sums) -> dict[str, Any]:
    """The history's record of an epoch whose steps are done.

    Raises:
        FloatingPointError: the loss is not finite any more.
    """
    steps = job.train.steps
    totals = job.world.sum(torch.cat([sums.loss[None] / (job.world.size * steps), sums.tally])).tolist()
    require_finite(totals[0], job.position.done)
    return {
        "epoch": job.position.done + 1,
        "stage": job.stage.name,
        "step": (job.position.done + 1) * steps,
        "train_loss": totals[0],
        "train_sa": totals[1] / totals[2] if totals[2] else None,
        "train_ra": totals[3] / totals[4] if totals[4] else None,
        "lr": sums.rate,
        "seconds": sums.seconds,
        "train_flops": job.train_flops + epoch_flops(job, sums),
        "images_per_second": steps * job.config.batch_size / sums.seconds,
        "world_sizes": list(job.world_sizes),
    }


def train_step(job: Job, step: int, x: Tensor, y: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """One optimiser update; loss (0-d) and counts (4,) of this rank, still on the device."""
    # Whatever draws from the global generator (dropout) becomes a function of the step: nothing to restore.
    torch.manual_seed(key(job.config.seed, "global", job.position.done, step, job.world.rank))
    set_learning_rate(job.optimiser, rate)
    watch, drawn = job.bare_step.watch, draws(job, step)
    with watch.part("passes"):
        outcome = job.step(x, y, drawn)
    job.optimiser.zero_grad(set_to_none=True)
    with watch.backward(job.model.parameters() if job.world.size > 1 else ()):
        outcome.loss.backward()
    job.bare_step.after_backward()
    job.optimiser.step()
    if job.sparsity is not None:
        steps = job.train.steps
        share = (job.position.epoch * steps + step + 1) / (job.stage.epochs * steps)
        job.sparsity.after_step(job.optimiser, share, job.position.done * steps + step + 1)
    if job.averaged is not None:
        job.averaged.update()
    return outcome.loss.detach(), outcome.tally


def epoch_flops(job: Job, sums: Sums) -> float:
    """Training FLOPs of one epoch over all ranks: forward-equivalents times what a forward costs at the actual density.

    Masks may move during an epoch; the mean of its two ends is taken.
    """
    everyone = job.world.sum(torch.tensor(sums.spent, dtype=torch.float64, device=job.world.device)).tolist()
    after = forward_flops(job)
    return sum(n * (b + a) / 2 for n, b, a in zip(everyone, sums.flops_before, after, strict=True))


def forward_flops(job: Job) -> list[float]:
    """FLOPs of one image through the network as it is now, per width, on the path of the largest lam."""
    lam, size = max(lam_grid(job.config)), job.train.source.image_size
    with evaluating(job.model):
        return [cost_at(job.model, lam, width, size).flops for width in range(len(job.model.width_mults))]


def draws(job: Job, step: int) -> Draws:
    """The randomness of one step, lam included: drawn for the global batch, ascending."""
    config, epoch = job.config, job.position.done
    source = generator(config.seed, "lam", epoch, step)
    lam = lookup("sampler", config.sampler.name).draw(config.sampler, config.batch_size, source)
    return Draws(config.seed, epoch, step, job.world.rank, job.world.size, lam.sort().values)
