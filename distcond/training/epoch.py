"""One epoch of training: batches, steps, learning rate, FLOPs, and the epoch's record for the history."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from distcond.data.loader import Batch
from distcond.methods.step_context import Outcome, StepRandomness, eval_mode
from distcond.methods.stopwatch import Stopwatch
from distcond.models.flops import cost_at
from distcond.registry import lookup
from distcond.runs.grid import lam_grid
from distcond.seeding import generator, key
from distcond.training.accumulation import share_randomness
from distcond.training.checkpointing import save_training
from distcond.training.optimiser import learning_rate, set_learning_rate
from distcond.training.progress import ProgressWriter
from distcond.training.trainer import EpochAccumulator, Trainer, require_finite


def train_epoch(trainer: Trainer, progress: ProgressWriter) -> dict[str, Any]:
    """Train to the end of the current epoch.

    Returns:
        The epoch's record: mean loss, accuracies on the training rows, learning rate, speed, FLOPs.

    Raises:
        FloatingPointError: the loss is not finite.
        StopRequested: the run was asked to stop within the epoch.
    """
    steps, trainer.started_at = trainer.train.steps, time.perf_counter()
    if trainer.accumulator is None:
        trainer.accumulator = EpochAccumulator.empty(forward_flops(trainer), trainer.world.device)
    sums = trainer.accumulator
    trainer.world_sizes = tuple(sorted({*trainer.world_sizes, trainer.world.size}))
    trainer.model.train()
    watch = trainer.bare_step.watch = progress.watch
    watch.reset()
    progress.begin_epoch(trainer.position.step)
    if trainer.position.epoch == trainer.position.step == 0:
        progress.pace.begin_stage()
    with closing(trainer.train.epoch(trainer.position.done, trainer.position.step)) as batches:
        for batch in timed_batches(batches, watch):
            rate = learning_rate(trainer.stage.optim, trainer.position.epoch, batch.step, steps, trainer.stage.epochs)
            loss, counts = train_step(trainer, batch.step, batch.x, batch.y, rate)
            sums.add(loss, counts, trainer.bare_step.spent, rate)
            watch.end()
            progress.pace.step_work = sum(trainer.bare_step.spent.values())
            progress.step(trainer.position.done, batch.step, loss)
            trainer.position = trainer.position._replace(step=batch.step + 1)
            done, last = trainer.position.done * steps + batch.step + 1, batch.step + 1 == steps
            if trainer.checkpoint_policy.after_step(done, last):
                save_training(trainer)
    sums.seconds, trainer.started_at = sums.seconds + time.perf_counter() - trainer.started_at, None
    record, shares = epoch_record(trainer, sums), watch.shares()
    return record if shares is None else record | {"shares": shares}


def timed_batches(batches: Iterator[Batch], watch: Stopwatch) -> Iterator[Batch]:
    """Yield the batches, timing the wait for each as the first part of a step."""
    while True:
        watch.begin()
        with watch.part("data"):
            batch = next(batches, None)
        if batch is None:
            watch.end()
            return
        yield batch


def epoch_record(trainer: Trainer, sums: EpochAccumulator) -> dict[str, Any]:
    """The history's record of an epoch whose steps are done. Collective.

    Raises:
        FloatingPointError: the loss is not finite.
    """
    steps = trainer.train.steps
    totals = trainer.world.sum(torch.cat([sums.loss[None] / (trainer.world.size * steps), sums.tally])).tolist()
    require_finite(totals[0], trainer.position.done)
    return {
        "epoch": trainer.position.done + 1,
        "stage": trainer.stage.name,
        "step": (trainer.position.done + 1) * steps,
        "train_loss": totals[0],
        "train_sa": totals[1] / totals[2] if totals[2] else None,
        "train_ra": totals[3] / totals[4] if totals[4] else None,
        "lr": sums.rate,
        "seconds": sums.seconds,
        "train_flops": trainer.train_flops + epoch_flops(trainer, sums),
        "images_per_second": trainer.train.images / sums.seconds,
        "world_sizes": list(trainer.world_sizes),
    }


def train_step(trainer: Trainer, step: int, x: Tensor, y: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """One optimiser update.

    Args:
        trainer: the run on this rank.
        step: number of the step in the epoch, counted from 0.
        x: images (N, 3, H, W) in [0, 1].
        y: labels (N,) int64.
        rate: learning rate.

    Returns:
        Loss (0-d) and counts (4,) of this rank (see `EpochAccumulator`), on the device.
    """
    set_learning_rate(trainer.optimiser, rate)
    randomness, count = step_randomness(trainer, step), trainer.shares.count
    outcomes, spent = list[Outcome](), dict[int, float]()
    for number in range(count):
        own = share_randomness(randomness, number, count)
        with trainer.shares.share(number), _reducing(trainer, number == count - 1):
            outcomes.append(_forward_backward(trainer, x[number::count], y[number::count], own, number))
        spent = {width: spent.get(width, 0.0) + forwards for width, forwards in trainer.bare_step.spent.items()}
    trainer.bare_step.spent = spent
    trainer.optimiser.step()
    if trainer.sparsity is not None:
        steps = trainer.train.steps
        share = (trainer.position.epoch * steps + step + 1) / (trainer.stage.epochs * steps)
        trainer.sparsity.after_step(trainer.optimiser, share, trainer.position.done * steps + step + 1)
    if trainer.averaged is not None:
        trainer.averaged.update()
    if count == 1:
        return outcomes[0]
    losses, tallies = zip(*outcomes, strict=True)
    return Outcome(torch.stack(losses).mean(), torch.stack(tallies).sum(0))


def _forward_backward(trainer: Trainer, x: Tensor, y: Tensor, randomness: StepRandomness, number: int) -> Outcome:
    """The passes of one share of the batch; its gradients are added to those of the shares before it."""
    # Makes draws from the global generator (dropout) a function of the step, so no generator state is saved.
    torch.manual_seed(key(trainer.config.seed, "global", randomness.epoch, randomness.step, randomness.rank))
    watch, count = trainer.bare_step.watch, trainer.shares.count
    with watch.part("passes"):
        outcome: Outcome = trainer.step(x, y, randomness)
    if number == 0:
        trainer.optimiser.zero_grad(set_to_none=True)
    with watch.backward(trainer.model.parameters() if trainer.world.size > 1 and number == count - 1 else ()):
        (outcome.loss if count == 1 else outcome.loss / count).backward()
    trainer.bare_step.after_backward()
    return Outcome(outcome.loss.detach(), outcome.tally)


def _reducing(trainer: Trainer, last: bool) -> AbstractContextManager[None]:
    """DDP reduces the gradients in the backward of the last share only."""
    if last or not isinstance(trainer.step, DistributedDataParallel):
        return nullcontext()
    quiet: AbstractContextManager[None] = trainer.step.no_sync()
    return quiet


def epoch_flops(trainer: Trainer, sums: EpochAccumulator) -> float:
    """Training FLOPs of one epoch over all ranks: forward-equivalents times the FLOPs of a forward. Collective.

    Masks may move during an epoch; the FLOPs of a forward are the mean of those before and after.
    """
    forwards = trainer.world.sum(torch.tensor(sums.spent, dtype=torch.float64, device=trainer.world.device)).tolist()
    after = forward_flops(trainer)
    return sum(n * (b + a) / 2 for n, b, a in zip(forwards, sums.flops_before, after, strict=True))


def forward_flops(trainer: Trainer) -> list[float]:
    """FLOPs of one image through the network at its current density, by width, on the path of the largest lam."""
    lam, size = max(lam_grid(trainer.config)), trainer.train.source.image_size
    with eval_mode(trainer.model):
        return [cost_at(trainer.model, lam, width, size).flops for width in range(len(trainer.model.width_mults))]


def step_randomness(trainer: Trainer, step: int) -> StepRandomness:
    """The randomness of one step. `lam` is drawn for the global batch and sorted."""
    config, epoch = trainer.config, trainer.position.done
    source = generator(config.seed, "lam", epoch, step)
    rows = trainer.train.global_size(step)
    lam = lookup("sampler", config.sampler.name).draw(config.sampler, rows, source)
    return StepRandomness(config.seed, epoch, step, trainer.world.rank, trainer.world.size, lam.sort().values)
