"""All ranks carry the same masks: what they decide from is averaged, what they decided is compared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor


def digest(masks: Mapping[str, Tensor]) -> int:
    """A 63-bit fingerprint of names and positions: the same for the same masks on any device and in any layout."""
    hasher = hashlib.blake2b(digest_size=8)
    for name, mask in masks.items():
        hasher.update(name.encode())
        hasher.update(mask.cpu().contiguous().numpy().tobytes())
    return int.from_bytes(hasher.digest(), "little") >> 1


def require_agreement(masks: Mapping[str, Tensor]) -> None:
    """Compare the masks of all ranks; nothing to do for one.

    Raises:
        RuntimeError: they differ, and so the ranks would train different networks. Raised on every rank.
    """
    if not _together():
        return
    mine = torch.tensor([digest(masks)], device=next(iter(masks.values())).device)
    everyone = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(everyone, mine)
    found = [f"rank {rank}: {int(value):016x}" for rank, value in enumerate(everyone)]
    if any(not torch.equal(value, everyone[0]) for value in everyone):
        raise RuntimeError(
            f"masks differ between ranks ({', '.join(found)}): their weights or gradients have come apart; "
            "restart from the last checkpoint"
        )


@torch.no_grad()
def average_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over ranks, with the same bits on every rank."""
    if not _together():
        return
    for tensor in tensors:
        dist.all_reduce(tensor)
        tensor /= dist.get_world_size()


def _together() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
