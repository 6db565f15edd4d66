"""Sparse momentum: once per epoch drop the smallest weights and regrow where momentum is largest, across layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from distcond.sparsity.distribution import LayerCounts, momentum_shares, redistribute, round_to_total, weight_budget
from distcond.sparsity.masked_weights import MaskedWeights
from distcond.sparsity.masks import Masks, count_kept, random_order, shape_mask
from distcond.sparsity.update import WEIGHT, Granularity, drop, grow, momentum_buffers


class MomentumRegrowth:
    """A mask with a constant number of kept weights over all layers, sparse from the start.

    The update of an epoch happens after the first step of the next one, and none follows the last epoch, so the saved
    network is the validated one. The optimiser's momentum stays dense.

    Args:
        masked: the weights.
        density: kept share of all weights, in (0, 1].
        drop_fraction: share of the stage done -> share of the kept units that an update drops.
        granularity: the units that are kept or dropped: weights or channels.
        seed: seed of the initial masks.
    """

    def __init__(
        self,
        masked: MaskedWeights,
        density: float,
        drop_fraction: Callable[[float], float],
        granularity: Granularity = WEIGHT,
        seed: int = 0,
    ) -> None:
        self.masked, self.drop_fraction, self.granularity, self.seed = masked, drop_fraction, granularity, seed
        self.budget = weight_budget(masked.num_weights, density)
        self.due = False
        self.num_updates = 0

    def start(self, stage: str) -> None:
        """Set random masks with the same density in every layer."""
        layers = self._layers([0] * len(self.masked.weights))
        parts = [total * self.budget / self.masked.num_weights for total in layers.total]
        counts = round_to_total(parts, self.budget, layers.total, layers.size, least=1)
        weights = self.masked.weights.items()
        masks = {name: self._random_mask(name, w, n) for (name, w), n in zip(weights, counts, strict=True)}
        self.masked.set_masks(masks)

    def after_step(self, optimiser: torch.optim.Optimizer, done: float, step: int) -> None:
        """Apply the masks; update them after the first step of an epoch."""
        self.masked.apply_masks()
        if self.due:
            self.due = False
            self.num_updates += 1
            self.masked.set_masks(self._update(optimiser, self.drop_fraction(done)))

    def after_epoch(self, record: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> bool:
        """Mark an update as pending."""
        self.due = True
        return False

    def report(self) -> dict[str, float]:
        """Density of the network, of its sparsest layer and of its densest layer."""
        counts = count_kept(self.masked.masks)
        layers = [counts[name] / weight.numel() for name, weight in self.masked.weights.items()]
        return {"density": self.masked.density(), "density_min": min(layers), "density_max": max(layers)}

    def state_dict(self) -> dict[str, Any]:
        """Masks, pending update and number of updates."""
        return {"masks": self.masked.state_dict(), "due": self.due, "num_updates": self.num_updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict`."""
        self.masked.load_state_dict(state["masks"])
        self.due, self.num_updates = state["due"], state["num_updates"]

    def rank_state(self) -> dict[str, Tensor]:
        """Nothing differs between ranks."""
        return {}

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to load."""

    @torch.no_grad()
    def _update(self, optimiser: torch.optim.Optimizer, rate: float) -> Masks:
        narrow, score, widen = self.granularity.narrow, self.granularity.score, self.granularity.widen
        masks = {name: narrow(mask) for name, mask in self.masked.masks.items()}
        momenta = {n: score(m) for n, m in momentum_buffers(self.masked.weights, optimiser).items()}
        layers = self._layers(list(count_kept(masks).values()))
        plan = redistribute(layers, momentum_shares(momenta, masks), rate, self.budget)
        new: Masks = {}
        for (name, mask), drops, grows in zip(masks.items(), plan.drops, plan.grows, strict=True):
            remaining = drop(mask, score(self.masked.weights[name]), drops)
            new[name] = widen(grow(remaining, momenta[name], grows), self.masked.masks[name])
        return new

    def _layers(self, kept: list[int]) -> LayerCounts:
        totals = [self.granularity.num_units(weight) for weight in self.masked.weights.values()]
        sizes = [w.numel() // total for w, total in zip(self.masked.weights.values(), totals, strict=True)]
        return LayerCounts(kept, totals, sizes)

    def _random_mask(self, name: str, weight: Tensor, count: int) -> Tensor:
        like = torch.empty_like(weight, dtype=torch.bool, requires_grad=False)
        units = torch.zeros(self.granularity.num_units(weight), dtype=torch.bool)
        units[random_order(len(units), self.seed, "masks", name)[:count]] = True
        narrow = self.granularity.narrow(like)
        return self.granularity.widen(shape_mask(units, narrow), like)
