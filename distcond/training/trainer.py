"""Trainer: the state of one run on one rank, and what of it goes into a checkpoint."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn

from distcond.config.schema import Config
from distcond.data.loader import Loader
from distcond.data.sources import Source
from distcond.distributed.running_statistics import all_gather_tensors, pool_over_ranks, running_statistics
from distcond.distributed.world import World
from distcond.methods.method import Sparsity, Stage
from distcond.methods.train_step import TrainStep
from distcond.models.conditional import ConditionalModel
from distcond.runs.checkpoint import Position
from distcond.runs.run_dir import RunDir
from distcond.runs.uploader import RunUploader
from distcond.training.accumulation import Shares
from distcond.training.averaging import WeightAverage
from distcond.training.checkpointing import CheckpointPolicy
from distcond.training.optimiser import make_optimiser
from distcond.training.selection import Winner


@dataclass
class EpochAccumulator:
    """Sums over the completed steps of an epoch on one rank. They survive an interruption within the epoch.

    Attributes:
        loss: sum of the steps' losses, 0-d float32 on the device.
        tally: (4,) float32 on the device: clean correct, clean rows, adversarial correct, adversarial rows.
        spent: forward-equivalents by width.
        flops_before: FLOPs of one image by width at the start of the epoch, before masks moved.
        rate: learning rate of the last step.
        seconds: time spent in the epoch by earlier attempts.
    """

    loss: Tensor
    tally: Tensor
    spent: list[float]
    flops_before: list[float]
    rate: float = 0.0
    seconds: float = 0.0

    @classmethod
    def empty(cls, flops_before: list[float], device: torch.device) -> EpochAccumulator:
        """The sums before the first step."""
        tally = torch.zeros(4, device=device)
        return cls(torch.zeros((), device=device), tally, [0.0] * len(flops_before), flops_before)

    def add(self, loss: Tensor, tally: Tensor, spent: Mapping[int, float], rate: float) -> None:
        """Add one step; `spent` is by index of the width. Does not synchronise with the host."""
        self.loss += loss
        self.tally += tally
        self.rate = rate
        for width, forwards in spent.items():
            self.spent[width] += forwards

    def state_dict(self, seconds: float) -> dict[str, Any]:
        """All sums as plain values and tensors, after `seconds` of this attempt."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"seconds": self.seconds + seconds}


def require_finite(loss: float, done: int) -> None:
    """Check the loss of the epoch after `done` completed ones.

    Raises:
        FloatingPointError: it is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"epoch {done + 1}: the loss is {loss}; try a lower optim.lr or precision.train=float32"
        )


@dataclass
class Trainer:
    """One run on one rank. `distcond.training.build_trainer` builds it."""

    config: Config
    world: World
    run: RunDir
    attempt: int
    model: ConditionalModel
    bare_step: TrainStep
    step: nn.Module  # `bare_step`, wrapped by DDP if there are several ranks
    stages: tuple[Stage, ...]
    sparsity: Sparsity | None
    optimiser: torch.optim.Optimizer
    train: Loader
    sources: dict[str, Source]
    checkpoint_policy: CheckpointPolicy
    uploader: RunUploader | None  # of a run at a URI
    shares: Shares  # of this rank's batch, see `optim.accumulate`
    position: Position = Position()  # noqa: RUF009  immutable
    best: tuple[int, float] | None = None  # epoch and validation score within the stage
    winners: dict[str, Winner] = field(default_factory=dict)  # of `eval.select=each`, within the stage
    validated: int = 0  # the latest epoch validated by this process
    train_flops: float = 0.0  # spent so far, over all ranks
    world_sizes: tuple[int, ...] = ()  # numbers of ranks that trained the run, ascending
    averaged: WeightAverage | None = None  # evaluated in place of the weights, if optim.averaging is set
    accumulator: EpochAccumulator | None = None  # of the current epoch
    classes: tuple[str, ...] = ()  # class names by index; empty if the data set has none
    train_images_digest: str = ""  # which training images are used
    started_at: float | None = None  # time.perf_counter() when this attempt began the epoch's steps; None after them

    @property
    def trained(self) -> bool:
        """Whether all stages are complete."""
        return self.position.stage == len(self.stages)

    @property
    def stage(self) -> Stage:
        """The current stage."""
        return self.stages[self.position.stage]

    @property
    def best_epochs(self) -> set[int]:
        """Epochs whose checkpoints are kept: of the best checkpoint, and of the winners of `eval.select=each`."""
        return {winner.epoch for winner in self.winners.values()} | ({self.best[0]} if self.best is not None else set())

    def enter(self, position: Position) -> None:
        """Move to `position`, with its stage's loss, a fresh optimiser and a fresh average."""
        self.position = position
        if not self.trained:
            self.bare_step.objective = self.stage.objective
            self.optimiser = make_optimiser(self.model, self.stage.optim)
        if self.config.optim.averaging:
            self.averaged = WeightAverage(self.model, self.config.optim.averaging)

    def evaluated_model(self) -> ConditionalModel:
        """The network to evaluate, the same on all ranks: a copy in eval mode, with averaged weights if
        `optim.averaging` is set, and with running statistics pooled over ranks. Collective."""
        model = copy.deepcopy(self.model).eval()
        if self.averaged is not None:
            self.averaged.copy_to(model)
        statistics = running_statistics(model.state_dict())
        of_shares = (statistics, *self.shares.state_dict())
        parts = [part for share in of_shares for part in all_gather_tensors(share, self.world)]
        for name, tensor in pool_over_ranks(parts, parts).items():
            statistics[name].copy_(tensor)
        return model

    def require_finite_loss(self) -> None:
        """Check the loss of the current epoch over all ranks. Collective.

        Raises:
            FloatingPointError: it is NaN or infinite.
        """
        if self.accumulator is not None:
            require_finite(float(self.world.sum(self.accumulator.loss)), self.position.done)

    def state_dict(self) -> dict[str, Any]:
        """What all ranks share, besides the weights: plain values and tensors for a checkpoint."""
        return {
            "method": self.config.method.name,
            "train_images": self.train_images_digest,
            "classes": self.classes,
            "optimiser": self.optimiser.state_dict(),
            "position": tuple(self.position),
            "best": self.best,
            "winners": {name: tuple(winner) for name, winner in self.winners.items()},
            "train_flops": self.train_flops,
            "world_sizes": self.world_sizes,
            "sparsity": self.sparsity.state_dict() if self.sparsity is not None else None,
            "averaged": self.averaged.state_dict() if self.averaged is not None else None,
        }

    def rank_state(self) -> dict[str, Any]:
        """What differs between ranks, besides the running statistics."""
        seconds = time.perf_counter() - self.started_at if self.started_at is not None else 0.0
        return {
            "averaged": self.averaged.rank_state() if self.averaged is not None else {},
            "sparsity": self.sparsity.rank_state() if self.sparsity is not None else {},
            **({"shares": self.shares.state_dict()} if self.shares.count > 1 else {}),
            "sums": self.accumulator.state_dict(seconds) if self.accumulator is not None else None,
        }

    def load_state_dict(self, shared: dict[str, Any], rank_state: dict[str, Any]) -> None:
        """Load both parts of a checkpoint, after `enter` with its position.

        Raises:
            RuntimeError, ValueError: the tensors are those of another network.
        """
        self.model.load_state_dict(shared["model"] | rank_state["statistics"])
        self.shares.load_state_dict(rank_state.get("shares", ()))
        self.optimiser.load_state_dict(shared["optimiser"])
        if self.sparsity is not None:
            self.sparsity.load_state_dict(shared["sparsity"])
            self.sparsity.load_rank_state(rank_state["sparsity"])
        if self.averaged is not None:
            self.averaged.load_state_dict(shared["averaged"], rank_state["averaged"])
        self.accumulator = EpochAccumulator(**rank_state["sums"]) if rank_state["sums"] is not None else None
        self.train_flops = shared["train_flops"]
        self.world_sizes = tuple(shared.get("world_sizes", (shared["world_size"],)))
        self.best = tuple(shared["best"]) if shared["best"] is not None else None
        self.winners = {name: Winner(*winner) for name, winner in shared.get("winners", {}).items()}
