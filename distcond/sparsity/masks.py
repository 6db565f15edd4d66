"""Masks by weight name, True = kept: made, counted, compared, checked, and the same on all ranks.

What ranks decide from is averaged, what they decided is compared.
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

Masks = dict[str, Tensor]
Weights = Mapping[str, Tensor]

Maskable = nn.Conv2d | nn.Linear


def layers_by_weight(model: nn.Module, kinds: tuple[type[Maskable], ...] = (nn.Conv2d,)) -> dict[str, Maskable]:
    """The layers of these kinds by the state_dict name of their weight, in model order.

    Raises:
        ConfigError: the model has none.
    """
    found = {f"{name}.weight": layer for name, layer in model.named_modules() if isinstance(layer, kinds)}
    if not found:
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigError(f"model: no {names} layer to mask; use one made of the method's layers, such as resnet18")
    return found


@torch.no_grad()
def random_masks(weights: Weights, counts: Mapping[str, int], *key: object) -> Masks:
    """Masks that keep `counts` weights at random positions: a function of key and name alone, on any device."""
    return {name: mask_at(w, random_order(w.numel(), *key, name)[: counts[name]]) for name, w in weights.items()}


@torch.no_grad()
def largest_masks(weights: Weights, count: int) -> Masks:
    """Masks that keep the `count` weights of largest magnitude over all layers together."""
    order = torch.cat([weight.abs().reshape(-1) for weight in weights.values()]).argsort(descending=True, stable=True)
    kept = torch.zeros_like(order, dtype=torch.bool)
    kept[order[:count]] = True
    parts = kept.split([weight.numel() for weight in weights.values()])
    return {name: shape_mask(part, weight) for (name, weight), part in zip(weights.items(), parts, strict=True)}


def random_order(size: int, *key: object) -> Tensor:
    """A permutation of `size` entries, on the CPU: a function of the key alone."""
    return torch.randperm(size, generator=generator(*key))


def mask_at(weight: Tensor, index: Tensor) -> Tensor:
    """The mask of a weight's shape that is True at these flat indices."""
    flat = torch.zeros(weight.numel(), dtype=torch.bool)
    flat[index] = True
    return shape_mask(flat, weight)


def shape_mask(flat: Tensor, like: Tensor) -> Tensor:
    """A flat mask in the shape, device and memory layout of `like`, so that a product reads both in order."""
    return torch.empty_like(like, dtype=torch.bool, requires_grad=False).copy_(flat.view(like.shape))


def count_kept(masks: Mapping[str, Tensor]) -> dict[str, int]:
    """Kept entries per mask, brought to the host at once."""
    return dict(zip(masks, torch.stack([mask.sum() for mask in masks.values()]).tolist(), strict=True))


def num_entries(tensors: Mapping[str, Tensor]) -> int:
    """Entries of all tensors together."""
    return sum(tensor.numel() for tensor in tensors.values())


def density(masks: Mapping[str, Tensor]) -> float:
    """Kept share of all entries; 1 where there are no masks."""
    return sum(count_kept(masks).values()) / num_entries(masks) if masks else 1.0


def mask_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Share of entries in which two sets of masks differ."""
    unequal = torch.stack([(one[name] != other[name]).sum() for name in one]).sum()
    return int(unequal) / num_entries(one)


def fit_saved_masks(saved: Mapping[str, Any], weights: Weights) -> Masks:
    """Saved masks on the weights' device and in their layout.

    Raises:
        ConfigError: other names, shapes or types than these weights need.
    """
    if saved.keys() != weights.keys():
        strangers = sorted(saved.keys() ^ weights.keys())
        raise ConfigError(f"masks do not fit the model: {strangers[0]} is in one only; load those saved with it")
    for name, weight in weights.items():
        mask = saved[name]
        if mask.shape != weight.shape or mask.dtype != torch.bool:
            found = f"{tuple(mask.shape)} {mask.dtype}"
            raise ConfigError(f"masks do not fit the model: {name} is {found}, not {tuple(weight.shape)} torch.bool")
    return {name: shape_mask(saved[name].reshape(-1), weight) for name, weight in weights.items()}


def mask_digest(masks: Mapping[str, Tensor]) -> int:
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
    if not _several_ranks():
        return
    mine = torch.tensor([mask_digest(masks)], device=next(iter(masks.values())).device)
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
    if not _several_ranks():
        return
    for tensor in tensors:
        dist.all_reduce(tensor)
        tensor /= dist.get_world_size()


def _several_ranks() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
