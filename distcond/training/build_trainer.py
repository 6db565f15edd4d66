"""Builds the trainer of a run: network, stages, data loaders, and the training step under DDP."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from distcond.config.schema import Config
from distcond.data.extra import prepare_extra
from distcond.data.loader import Loader
from distcond.data.prepare import class_names, open_source, prepare_data, resolve_dataset
from distcond.data.sources import MemorySource, Source
from distcond.data.splits import budget_rows, image_set_digest, take_subset
from distcond.data.transforms import CutMix
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.methods.method import Method, Stage
from distcond.methods.train_step import TrainStep
from distcond.registry import lookup
from distcond.runs.build import build_model, build_step, check_step
from distcond.runs.remote import remote_run_of
from distcond.runs.run_dir import RunDir
from distcond.runs.uploader import RunUploader
from distcond.training.accumulation import Shares, check_accumulation
from distcond.training.bn_batch_size import check_bn_batch_size, check_last_batch
from distcond.training.checkpointing import CheckpointPolicy, never_stop
from distcond.training.optimiser import make_optimiser
from distcond.training.trainer import Trainer


def build_trainer(
    config: Config, world: World, run: RunDir, attempt: int, stop: Callable[[], bool] = never_stop
) -> Trainer:
    """Build everything a run needs on this rank, with initial weights.

    Args:
        config: the run.
        world: this rank among the others.
        run: the run directory.
        attempt: how often the workers were started before.
        stop: whether the run was asked to stop; polled about once a second.

    Raises:
        ConfigError: settings contradict each other or do not fit the data.
    """
    check_bn_batch_size(config, world.size)  # a cluster may have started more workers than the driver expected
    model = build_model(config)
    step = build_step(config, model, world.device)
    sources = open_sources(config, world)
    train = train_loader(config, sources["train"], world)
    _check_batch_size(config, len(train.source))
    check_last_batch(config, len(train.source), world.size)
    method: Method = lookup("method", config.method.name)
    stages = stages_of(config, method)
    sparsity, optimiser = method.sparsity(config, model), make_optimiser(model, stages[0].optim)
    remote, shares = remote_run_of(config, run.path), Shares(model, config.optim.accumulate)
    uploader = RunUploader(remote, world) if remote is not None else None
    policy = CheckpointPolicy(world, config.save_steps, config.save_minutes, stop)
    # The run ID covers the content of the images, but not which of them are used.
    digest = image_set_digest("train", budget_rows(sources["train"], config.train_examples))
    return Trainer(
        config, world, run, attempt, model, step, wrap_ddp(step, world), stages, sparsity, optimiser, train, sources,
        policy, uploader, shares, classes=class_names(config.data), train_images_digest=digest,
    )  # fmt: skip


def check_trainable(config: Config, train_images: int, workers: int = 1) -> None:
    """Check, before anything is started or written, the settings that `build_trainer` would refuse.

    Args:
        config: the run.
        train_images: number of training images in the data set.
        workers: number of ranks that will share a batch, if known.

    Raises:
        ConfigError: settings contradict each other or do not fit the data.
    """
    images = min(config.train_examples or train_images, train_images)
    _check_batch_size(config, images)
    check_last_batch(config, images, workers)
    check_step(config)
    check_accumulation(config)
    method: Method = lookup("method", config.method.name)
    stages_of(config, method)
    method.sparsity(config, build_model(config))


def _check_batch_size(config: Config, images: int) -> None:
    if config.batch_size > images:
        raise ConfigError(
            f"batch_size={config.batch_size}: more than the {images} training images; valid: 1 to {images}"
        )


def stages_of(config: Config, method: Method) -> tuple[Stage, ...]:
    """The stages of a run: the method's own, or one over all epochs."""
    if method.stages is not None:
        return method.stages(config)
    return (Stage("train", config.epochs, method.objective(config.method), config.optim),)


def open_sources(config: Config, world: World) -> dict[str, Source]:
    """The sources of "train", "val" and "test" on this rank's device."""
    data = config.data
    files = prepare_data(data)
    return {split: open_source(files, split, world.device, data.threads) for split in ("train", "val", "test")}


def train_loader(config: Config, source: Source, world: World) -> Loader:
    """This rank's training batches: shuffled, augmented, with CutMix and extra images as configured.

    Raises:
        ConfigError: `data.extra` cannot be used.
    """
    dataset, data = resolve_dataset(config.data), config.data
    return Loader(
        take_subset(source, config.train_examples),
        batch_size=config.batch_size,
        seed=config.seed,
        rank=world.rank,
        world=world.size,
        device=world.device,
        augment=dataset.augment if data.augment else None,
        shuffle=True,
        drop_last=config.drop_last,
        cutmix=CutMix(data.cutmix, dataset.num_classes) if data.cutmix else None,
        extra=MemorySource(prepare_extra(data.extra, data.cache_dir, dataset).arrays(), world.device)
        if data.extra
        else None,
        extra_share=data.extra_share,
    )


#: torch 2.15 renamed the option.
_DDP_PARAMETERS = inspect.signature(DistributedDataParallel.__init__).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _DDP_PARAMETERS else "broadcast_buffers"


def wrap_ddp(step: TrainStep, world: World) -> nn.Module:
    """Wrap the training step in DDP. Buffers are not broadcast: every rank keeps its own running statistics."""
    if world.size == 1:
        return step
    options: dict[str, Any] = {_SYNC_BUFFERS: False}
    if world.device.type == "cuda":
        options["device_ids"] = [world.device.index]
    wrapped = DistributedDataParallel(step, gradient_as_bucket_view=True, **options)
    settle_buckets(wrapped, step)
    return wrapped


def settle_buckets(wrapped: nn.Module, step: TrainStep) -> None:
    """Run one step with zero loss and without the network, so that DDP assigns gradients to their final buckets.

    DDP rebuilds its buckets after the first step, and with three or more ranks the order of a sum depends on the place
    in the bucket. Without this, the first step after a resume would differ in the last bits from the same step of an
    uninterrupted run.
    """

    def zero_loss(zero: Tensor) -> Tensor:
        return torch.stack([parameter.sum() for parameter in step.parameters()]).sum() * zero

    step.forward = zero_loss  # type: ignore[assignment]
    try:
        # DDP needs an argument to move to its device.
        wrapped(torch.zeros((), device=next(step.parameters()).device)).backward()
    finally:
        del step.forward
    step.zero_grad(set_to_none=True)
