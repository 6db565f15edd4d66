"""One mask that moves every so many steps, layer by layer: as many weights grow as were dropped, or as a trend asks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from distcond.sparsity.distribution import Distribution, budget
from distcond.sparsity.masked_weights import MaskedWeights
from distcond.sparsity.masks import kept, scattered
from distcond.sparsity.score import gradient, magnitude, random
from distcond.sparsity.trend import Trend
from distcond.sparsity.update import drop, grow, num_dropped


@dataclass(frozen=True)
class Pace:
    """When masks move, and how far."""

    every: int  # steps between updates
    every_late: int  # the same in the second half of the run
    drop_fraction: Callable[[float], float]  # share of the stage done -> share of the kept weights dropped

    def due(self, done: float, step: int) -> bool:
        """Whether an update follows this step; never the last one, after which nothing would train what grew."""
        return done < 1 and step % (self.every_late if done > 0.5 else self.every) == 0


class DropAndGrow:
    """Drop the smallest weights and grow others, within each layer; momentum is masked with the weights.

    Args:
        masked: the weights.
        density: kept share of them all at the start, in (0, 1].
        distribution: how that is shared out over the layers.
        pace: when and how much.
        growth: "gradient" = where the gradient of the last step is largest, "random" = anywhere.
        trend: makes the density follow the history of the run; None = it stays what it is in every layer.
        seed: of the first masks and of random growth.
    """

    def __init__(
        self,
        masked: MaskedWeights,
        density: float,
        distribution: Distribution,
        pace: Pace,
        growth: Literal["gradient", "random"] = "gradient",
        trend: Trend | None = None,
        seed: int = 0,
    ) -> None:
        self.masked, self.pace, self.growth, self.trend, self.seed = masked, pace, growth, trend, seed
        shapes = {name: weight.shape for name, weight in masked.weights.items()}
        self.counts = distribution(shapes, budget(masked.num_weights, density))
        self.num_updates = 0

    def start(self, stage: str) -> None:
        """Masks at random places."""
        self.masked.put(scattered(self.masked.weights, self.counts, self.seed, "masks"))

    def after_step(self, optimiser: torch.optim.Optimizer, done: float, step: int) -> None:
        """Hold the masks; move them where the pace says so."""
        self.masked.hold(optimiser)
        if self.pace.due(done, step):
            self._update(done, step)

    def after_epoch(self, record: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> bool:
        """Let the trend see the epoch."""
        if self.trend is not None:
            self.trend.note(record)
        return False

    def report(self) -> dict[str, float]:
        """Density, updates so far and what the trend did in them."""
        found = {"density": self.masked.density(), "updates": float(self.num_updates)}
        return found | (self.trend.report() if self.trend is not None else {})

    def state_dict(self) -> dict[str, Any]:
        """Masks, updates so far and the trend's history."""
        trend = self.trend.state_dict() if self.trend is not None else None
        return {"masks": self.masked.state_dict(), "num_updates": self.num_updates, "trend": trend}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.masked.load_state_dict(state["masks"])
        self.num_updates = state["num_updates"]
        if self.trend is not None:
            self.trend.load_state_dict(state["trend"])

    def own_state(self) -> dict[str, Tensor]:
        """Nothing differs between ranks."""
        return {}

    def load_own_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to load."""

    @torch.no_grad()
    def _update(self, done: float, step: int) -> None:
        rate, weights = self.pace.drop_fraction(done), self.masked.weights
        extra_drop, extra_grow = self.trend.extra(done) if self.trend is not None else (0.0, 0.0)
        growths, sizes = self._growth_scores(step), magnitude(weights)
        new, counts = {}, kept(self.masked.masks)
        for name, mask in self.masked.masks.items():
            if counts[name] == mask.numel():
                new[name] = mask  # as in the authors' code a layer that is fully dense never drops, not even for good
                continue
            drops = num_dropped(counts[name], rate)
            more = min(math.ceil(rate * extra_drop * counts[name]), counts[name] - drops - 1)
            # Rounded down, as by the authors: of fewer than 20 dropped, 5 % more is none.
            grows = min(int(drops * (1.0 + extra_grow)), mask.numel() - counts[name] + drops + more)
            new[name] = grow(drop(mask, sizes[name], drops + more), growths[name], grows)
        self.masked.put(new)
        self.num_updates += 1

    def _growth_scores(self, step: int) -> dict[str, Tensor]:
        weights = self.masked.weights
        return gradient(weights) if self.growth == "gradient" else random(weights, self.seed, "grow", step)
