"""Masks by weight name, True = kept: create, count, compare and check them, and keep ranks in agreement.

Ranks decide from averaged tensors and compare digests of the resulting masks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from distcond.errors import ConfigError
from distcond.seeding import generator

Masks = dict[str, Tensor]  # weight name -> bool mask
Weights = Mapping[str, Tensor]  # weight name -> weight
Maskable = nn.Conv2d | nn.Linear


def layers_by_weight(model: nn.Module, kinds: tuple[type[Maskable], ...] = (nn.Conv2d,)) -> dict[str, Maskable]:
    """The layers of these types by the state_dict name of their weight, in model order.

    Raises:
        ConfigError: the model has none.
    """
    layers = {f"{name}.weight": layer for name, layer in model.named_modules() if isinstance(layer, kinds)}
    if not layers:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigError(f"model: no {names} layer to mask; use a model built from the method's layers, e.g. resnet18")
    return layers


@torch.no_grad()
def random_masks(weights: Weights, counts: Mapping[str, int], *key: object) -> Masks:
    """Masks that keep `counts` weights at random positions; they depend on key and name, not on the device."""
    return {
        name: mask_from_indices(w, random_order(w.numel(), *key, name)[: counts[name]]) for name, w in weights.items()
    }


@torch.no_grad()
def largest_masks(weights: Weights, count: int) -> Masks:
    """Masks that keep the `count` weights of largest magnitude over all layers."""
    order = torch.cat([weight.abs().reshape(-1) for weight in weights.values()]).argsort(descending=True, stable=True)
    kept = torch.zeros_like(order, dtype=torch.bool)
    kept[order[:count]] = True
    parts = kept.split([weight.numel() for weight in weights.values()])
    return {name: shape_mask(part, weight) for (name, weight), part in zip(weights.items(), parts, strict=True)}


def random_order(size: int, *key: object) -> Tensor:
    """A permutation of `size` entries on the CPU, keyed by `key`."""
    return torch.randperm(size, generator=generator(*key))


def mask_from_indices(weight: Tensor, index: Tensor) -> Tensor:
    """A mask like `weight` that is True at these flat indices."""
    flat = torch.zeros(weight.numel(), dtype=torch.bool)
    flat[index] = True
    return shape_mask(flat, weight)


def shape_mask(flat: Tensor, like: Tensor) -> Tensor:
    """A flat mask in the shape, device and memory layout of `like`."""
    return torch.empty_like(like, dtype=torch.bool, requires_grad=False).copy_(flat.view(like.shape))


def count_kept(masks: Mapping[str, Tensor]) -> dict[str, int]:
    """Kept entries per mask, with one synchronisation."""
    return dict(zip(masks, torch.stack([mask.sum() for mask in masks.values()]).tolist(), strict=True))


def num_entries(tensors: Mapping[str, Tensor]) -> int:
    """Number of entries of all tensors."""
    return sum(tensor.numel() for tensor in tensors.values())


def density(masks: Mapping[str, Tensor]) -> float:
    """Kept share of all entries; 1 without masks."""
    return sum(count_kept(masks).values()) / num_entries(masks) if masks else 1.0


def mask_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Share of entries in which two sets of masks differ."""
    unequal = torch.stack([(one[name] != other[name]).sum() for name in one]).sum()
    return int(unequal) / num_entries(one)


def fit_saved_masks(saved: Mapping[str, Any], weights: Weights) -> Masks:
    """Saved masks on the weights' device and in their memory layout.

    Raises:
        ConfigError: names, shapes or dtypes do not match the weights.
    """
    if saved.keys() != weights.keys():
        unmatched = sorted(saved.keys() ^ weights.keys())
        raise ConfigError(f"masks do not fit the model: {unmatched[0]} is in one only; load those saved with it")
    for name, weight in weights.items():
        mask = saved[name]
        if mask.shape != weight.shape or mask.dtype != torch.bool:
            actual = f"{tuple(mask.shape)} {mask.dtype}"
            raise ConfigError(f"masks do not fit the model: {name} is {actual}, not {tuple(weight.shape)} torch.bool")
    return {name: shape_mask(saved[name].reshape(-1), weight) for name, weight in weights.items()}


def mask_digest(masks: Mapping[str, Tensor]) -> int:
    """A 63-bit digest of names and masks, independent of device and memory layout."""
    hasher = hashlib.blake2b(digest_size=8)
    for name, mask in masks.items():
        hasher.update(name.encode())
        hasher.update(mask.cpu().contiguous().numpy().tobytes())
    return int.from_bytes(hasher.digest(), "little") >> 1


def require_agreement(masks: Mapping[str, Tensor]) -> None:
    """Check that all ranks have the same masks.

    Raises:
        RuntimeError: masks differ, so that ranks would train different networks. Raised on every rank.
    """
    if not _is_distributed():
        return
    own = torch.tensor([mask_digest(masks)], device=next(iter(masks.values())).device)
    digests = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(digests, own)
    if any(not torch.equal(digest, digests[0]) for digest in digests):
        by_rank = ", ".join(f"rank {rank}: {int(digest):016x}" for rank, digest in enumerate(digests))
        raise RuntimeError(
            f"masks differ between ranks ({by_rank}): their weights or gradients have diverged; "
            "restart from the last checkpoint"
        )


@torch.no_grad()
def average_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its mean over ranks, bitwise equal on every rank."""
    if not _is_distributed():
        return
    for tensor in tensors:
        dist.all_reduce(tensor)
        tensor /= dist.get_world_size()


def _is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
