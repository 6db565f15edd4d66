"""Copies of a batch to where the training runs, without stopping the host."""

from __future__ import annotations

import torch
from torch import Tensor


def copied(x: Tensor, device: torch.device) -> Tensor:
    """A fresh copy of the CPU tensor `x` on `device`; `x` may be overwritten as soon as this returns.

    To a GPU it goes through pinned memory, so that the copy queues behind the work already launched instead of
    waiting for it. (torch keeps the pinned block until the copy is done.)
    """
    if device.type == "cpu":
        return x.clone()
    if device.type == "cuda":
        pinned = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
        return pinned.copy_(x).to(device, non_blocking=True)
    return x.to(device)
