"""All-gather of texts. torch's own collectives for objects would unpickle what comes over the network."""

from __future__ import annotations

import torch
import torch.distributed as dist

from distcond.distributed.world import World, wait_for_release


def all_gather_text(world: World, text: str) -> list[str]:
    """The texts of all workers in order of rank; every one of them calls it with its own, of any length."""
    if world.size == 1:
        return [text]
    own = torch.frombuffer(bytearray(text.encode() or b"\0"), dtype=torch.uint8)
    sizes = _all_gather(torch.tensor([len(text.encode())]), world)
    longest = max(1, *(int(size) for size in sizes))
    padded = torch.zeros(longest, dtype=torch.uint8)
    padded[: len(own)] = own
    parts = _all_gather(padded, world)
    return [bytes(part[: int(size)].tolist()).decode() for part, size in zip(parts, sizes, strict=True)]


def _all_gather(values: torch.Tensor, world: World) -> list[torch.Tensor]:
    parts = [torch.empty_like(values) for _ in range(world.size)]
    with wait_for_release(values, *parts):
        dist.all_gather(parts, values)
    return parts
