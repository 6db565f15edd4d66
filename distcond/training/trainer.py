"""Trainer: the parts of one run on one rank, and how they are built and wrapped by DDP."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

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
from distcond.distributed.running_statistics import all_gather_tensors, pool_over_ranks, running_statistics
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.methods.method import Method, Sparsity, Stage
from distcond.methods.train_step import TrainStep
from distcond.models.conditional import ConditionalModel
from distcond.registry import lookup
from distcond.runs.build import build_model, build_step
from distcond.runs.remote import remote_run_of
from distcond.runs.run_dir import RunDir
from distcond.runs.uploader import RunUploader
from distcond.training.averaging import WeightAverage
from distcond.training.bn_batch_size import check_bn_batch_size
from distcond.training.checkpoint_policy import CheckpointPolicy, never_stop
from distcond.training.epoch_sums import EpochAccumulator
from distcond.training.optimiser import make_optimiser


class Position(NamedTuple):
    """Where a run stands: which stage, epochs done in it, epochs done in all, steps done in the present epoch.

    Past the last stage = trained. All steps done = the epoch's validation is to come.
    """

    stage: int = 0
    epoch: int = 0
    done: int = 0
    step: int = 0


@dataclass
class Trainer:
    """One run on one rank."""

    config: Config
    world: World
    run: RunDir
    attempt: int
    model: ConditionalModel
    bare_step: TrainStep
    step: nn.Module  # the same, wrapped by DDP where there are several ranks
    stages: tuple[Stage, ...]
    sparsity: Sparsity | None
    optimiser: torch.optim.Optimizer
    train: Loader
    sources: dict[str, Source]
    points: CheckpointPolicy
    upload: RunUploader | None  # where the run lives at a URI
    position: Position = Position()  # noqa: RUF009  immutable
    best: tuple[int, float] | None = None  # epoch and validation score, within the stage
    validated: int = 0  # the newest epoch that was validated in this process
    train_flops: float = 0.0  # spent so far, over all ranks
    world_sizes: tuple[int, ...] = ()  # numbers of ranks that trained it, ascending
    averaged: WeightAverage | None = None  # what is evaluated, where weights are averaged
    sums: EpochAccumulator | None = None  # of the epoch that is under way
    classes: tuple[str, ...] = ()  # by number; empty where they have no names
    trained_on: str = ""  # digest of which training images are used
    began: float | None = None  # time.perf_counter() where this attempt began with its steps; None when they are done

    @property
    def trained(self) -> bool:
        """Whether every stage is over."""
        return self.position.stage == len(self.stages)

    @property
    def stage(self) -> Stage:
        """The stage the run is in."""
        return self.stages[self.position.stage]

    def enter(self, position: Position) -> None:
        """Stand at `position`, with its stage's loss, a fresh optimiser and a fresh average."""
        self.position = position
        if not self.trained:
            self.bare_step.objective = self.stage.objective
            self.optimiser = make_optimiser(self.model, self.stage.optim)
        if self.config.optim.averaging:
            self.averaged = WeightAverage(self.model, self.config.optim.averaging)

    def evaluated_model(self) -> ConditionalModel:
        """A copy in eval mode, averaged over steps where that is asked for, with the running statistics over all ranks:
        one network for all workers."""
        model = copy.deepcopy(self.model).eval()
        if self.averaged is not None:
            self.averaged.put_into(model)
        own = running_statistics(model.state_dict())
        parts = all_gather_tensors(own, self.world)
        for name, tensor in pool_over_ranks(parts, parts).items():
            own[name].copy_(tensor)
        return model


def build_trainer(
    config: Config, world: World, run: RunDir, attempt: int, stop: Callable[[], bool] = never_stop
) -> Trainer:
    """Build everything a run needs on this rank, with initial weights. `stop` tells when it is asked to stop.

    Raises:
        ConfigError: settings that do not fit each other or the data.
    """
    check_bn_batch_size(config, world.size)  # a cluster may have given more workers than the driver knew of
    model = build_model(config)
    step = build_step(config, model, world.device)
    sources = open_sources(config, world)
    train = train_loader(config, sources["train"], world)
    _check_batch(config, len(train.source))
    method: Method = lookup("method", config.method.name)
    stages = stages_of(config, method)
    sparsity, optimiser = method.sparsity(config, model), make_optimiser(model, stages[0].optim)
    home = remote_run_of(config, run.path)
    upload = RunUploader(home, world) if home is not None else None
    points = CheckpointPolicy(world, config.save_steps, config.save_minutes, stop)
    # Their content is in the run's name: it is which of them that may differ.
    trained_on = image_set_digest("train", budget_rows(sources["train"], config.train_examples))
    return Trainer(
        config, world, run, attempt, model, step, wrap_ddp(step, world), stages, sparsity, optimiser, train, sources,
        points, upload, classes=class_names(config.data), trained_on=trained_on,
    )  # fmt: skip


def check_trainable(config: Config, train_images: int) -> None:
    """Refuse, before anything is started or written, what `build_trainer` would refuse of settings alone.

    Args:
        config: the run.
        train_images: how many the data set has.

    Raises:
        ConfigError: settings that do not fit each other or the data.
    """
    _check_batch(config, min(config.train_examples or train_images, train_images))
    method: Method = lookup("method", config.method.name)
    stages_of(config, method)
    method.sparsity(config, build_model(config))


def _check_batch(config: Config, images: int) -> None:
    if config.batch_size > images:
        few = f"batch_size={config.batch_size}: more than the {images} training images"
        raise ConfigError(f"{few}; valid: 1 to {images}")


def stages_of(config: Config, method: Method) -> tuple[Stage, ...]:
    """The stages of a run: the method's own, or one over all epochs."""
    if method.stages is not None:
        return method.stages(config)
    return (Stage("train", config.epochs, method.objective(config.method), config.optim),)


def open_sources(config: Config, world: World) -> dict[str, Source]:
    """The three splits on this rank's device."""
    data = config.data
    files = prepare_data(data)
    return {split: open_source(files, split, world.device, data.threads) for split in ("train", "val", "test")}


def train_loader(config: Config, source: Source, world: World) -> Loader:
    """This rank's batches of training images, changed at random and mixed as the config says.

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
        drop_last=True,
        cutmix=CutMix(data.cutmix, dataset.num_classes) if data.cutmix else None,
        extra=MemorySource(prepare_extra(data.extra, data.cache_dir, dataset).arrays(), world.device)
        if data.extra
        else None,
        extra_share=data.extra_share,
    )


def wrap_ddp(step: TrainStep, world: World) -> nn.Module:
    """DDP around the whole step. Buffers are not broadcast: running statistics are each rank's own."""
    if world.size == 1:
        return step
    options: dict[str, Any] = {_BUFFERS: False}
    if world.device.type == "cuda":
        options["device_ids"] = [world.device.index]
    wrapped = DistributedDataParallel(step, gradient_as_bucket_view=True, **options)
    settle_buckets(wrapped, step)
    return wrapped


def settle_buckets(wrapped: nn.Module, step: TrainStep) -> None:
    """Let DDP deal the gradients to the buckets they stay in, by a step whose loss is zero and that runs no network.

    It does so after its first step, and three ranks or more add an element up in an order that goes by its place in the
    bucket: the first step of a resumed run would differ from the same step of an uninterrupted one in the last bits.
    """

    def nothing(zero: Tensor) -> Tensor:
        return torch.stack([parameter.sum() for parameter in step.parameters()]).sum() * zero

    step.forward = nothing  # type: ignore[assignment]
    try:
        # With an argument: DDP cannot move none to its device.
        wrapped(torch.zeros((), device=next(step.parameters()).device)).backward()
    finally:
        del step.forward
    step.zero_grad(set_to_none=True)


#: torch 2.15 renamed the option.
_NAMES = inspect.signature(DistributedDataParallel.__init__).parameters
_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _NAMES else "broadcast_buffers"
