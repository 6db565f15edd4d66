"""Masks by weight name, True = kept: made, counted, compared and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
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
def scattered(weights: Weights, counts: Mapping[str, int], *key: object) -> Masks:
    """Masks that keep `counts` weights at random positions: a function of key and name alone, on any device."""
    return {name: at(w, random_order(w.numel(), *key, name)[: counts[name]]) for name, w in weights.items()}


@torch.no_grad()
def largest(weights: Weights, count: int) -> Masks:
    """Masks that keep the `count` weights of largest magnitude over all layers together."""
    order = torch.cat([weight.abs().reshape(-1) for weight in weights.values()]).argsort(descending=True, stable=True)
    kept = torch.zeros_like(order, dtype=torch.bool)
    kept[order[:count]] = True
    parts = kept.split([weight.numel() for weight in weights.values()])
    return {name: shaped(part, weight) for (name, weight), part in zip(weights.items(), parts, strict=True)}


def random_order(size: int, *key: object) -> Tensor:
    """A permutation of `size` entries, on the CPU: a function of the key alone."""
    return torch.randperm(size, generator=generator(*key))


def at(weight: Tensor, index: Tensor) -> Tensor:
    """The mask of a weight's shape that is True at these flat indices."""
    flat = torch.zeros(weight.numel(), dtype=torch.bool)
    flat[index] = True
    return shaped(flat, weight)


def shaped(flat: Tensor, like: Tensor) -> Tensor:
    """A flat mask in the shape, device and memory layout of `like`, so that a product reads both in order."""
    return torch.empty_like(like, dtype=torch.bool, requires_grad=False).copy_(flat.view(like.shape))


def kept(masks: Mapping[str, Tensor]) -> dict[str, int]:
    """Kept entries per mask, brought to the host at once."""
    return dict(zip(masks, torch.stack([mask.sum() for mask in masks.values()]).tolist(), strict=True))


def num_entries(tensors: Mapping[str, Tensor]) -> int:
    """Entries of all tensors together."""
    return sum(tensor.numel() for tensor in tensors.values())


def density(masks: Mapping[str, Tensor]) -> float:
    """Kept share of all entries; 1 where there are no masks."""
    return sum(kept(masks).values()) / num_entries(masks) if masks else 1.0


def difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Share of entries in which two sets of masks differ."""
    unequal = torch.stack([(one[name] != other[name]).sum() for name in one]).sum()
    return int(unequal) / num_entries(one)


def fitted(saved: Mapping[str, Any], weights: Weights) -> Masks:
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
    return {name: shaped(saved[name].reshape(-1), weight) for name, weight in weights.items()}
