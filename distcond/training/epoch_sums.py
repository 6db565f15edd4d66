"""EpochAccumulator: what an epoch adds up on one rank, step by step; it survives an interruption within the epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass
class EpochAccumulator:
    """Sums over the steps of an epoch that are done.

    Attributes:
        loss: of the steps' losses, 0-d float32 on the device.
        tally: (4,) float32 on the device: clean correct, clean rows, adversarial correct, adversarial rows.
        spent: forward-equivalents per width.
        flops_before: FLOPs of one image per width at the start of the epoch, before masks moved.
        rate: learning rate of the last step.
        seconds: spent in the epoch by the attempts before this one.
    """

    loss: Tensor
    tally: Tensor
    spent: list[float]
    flops_before: list[float]
    rate: float = 0.0
    seconds: float = 0.0

    @classmethod
    def none(cls, flops_before: list[float], device: torch.device) -> EpochAccumulator:
        """Before the first step."""
        zeros = torch.zeros(4, device=device)
        return cls(torch.zeros((), device=device), zeros, [0.0] * len(flops_before), flops_before)

    def add(self, loss: Tensor, tally: Tensor, spent: Mapping[int, float], rate: float) -> None:
        """One step more; `spent` by index of the width. No host synchronisation."""
        self.loss += loss
        self.tally += tally
        self.rate = rate
        for width, forwards in spent.items():
            self.spent[width] += forwards

    def state_dict(self, seconds: float) -> dict[str, Any]:
        """All of it, after `seconds` of this attempt."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"seconds": self.seconds + seconds}


def require_finite(loss: float, done: int) -> None:
    """Refuse to go on from a loss that is no number, after `done` whole epochs.

    Raises:
        FloatingPointError: NaN or infinite.
    """
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"epoch {done + 1}: the loss is {loss}; try a lower optim.lr or precision.train=float32"
        )


def reshard(parts: Sequence[Mapping[str, Any]], rank: int, size: int) -> dict[str, Any]:
    """The state that `rank` of `size` goes on from where others have saved `parts`: what it all adds up to stays."""
    mine, first = parts[rank::size], parts[0]
    loss = torch.stack([part["loss"] for part in mine]).sum() if mine else torch.zeros_like(first["loss"])
    tally = torch.stack([part["tally"] for part in mine]).sum(0) if mine else torch.zeros_like(first["tally"])
    spent = [sum(part["spent"][width] for part in mine) for width in range(len(first["spent"]))]
    # A step's loss is the mean over its ranks, which have become more or fewer.
    return {**first, "loss": loss * (size / len(parts)), "tally": tally, "spent": spent}
