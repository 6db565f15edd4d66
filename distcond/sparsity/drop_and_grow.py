"""One mask that moves every so many steps, layer by layer: as many weights grow as were dropped, or as a trend asks.

The trend reads the last epochs: overfitting asks for fewer weights, a rising validation loss for more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from distcond.sparsity.distribution import Distribution, weight_budget
from distcond.sparsity.masked_weights import MaskedWeights
from distcond.sparsity.masks import count_kept, random_masks
from distcond.sparsity.update import drop, grow, num_dropped, random_scores, score_by_gradient, score_by_magnitude


@dataclass
class DensityTrend:
    """A history of the robust generalisation gap (train RA - val RA) and of the adversarial validation loss.

    Judged over the last `window` differences between consecutive epochs. Fewer weights: at least `threshold` of the
    gap's differences are positive. More weights: at least `threshold` of the loss's differences are not negative. Both
    may hold at once, and neither does before `start` of the stage is done or the window is full.
    """

    window: int = 4
    threshold: float = 0.5
    start: float = 0.5
    extra_drop: float = 0.4  # dropped for good, as a share of what an update drops
    extra_grow: float = 0.05  # grown beyond what was dropped, as a share of it
    gaps: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    num_drops: int = 0
    num_grows: int = 0

    def note(self, record: Mapping[str, Any]) -> None:
        """Take an epoch's history record: "train_ra" and, of the most robust point of "val", "ra" and "ra_loss"."""
        point = max(record["val"], key=lambda point: point.get("blend_t", point["lam"]))
        self.gaps.append(record["train_ra"] - point["ra"])
        self.losses.append(point["ra_loss"])

    def extra(self, done: float) -> tuple[float, float]:
        """What to drop and what to grow beyond an update's own, now; counted in the report."""
        if done <= self.start or len(self.gaps) <= self.window:
            return 0.0, 0.0
        overfits = _share(self._changes(self.gaps), above=0, or_equal=False) >= self.threshold
        worsens = _share(self._changes(self.losses), above=0, or_equal=True) >= self.threshold
        self.num_drops += overfits
        self.num_grows += worsens
        return self.extra_drop * overfits, self.extra_grow * worsens

    def report(self) -> dict[str, float]:
        """Updates so far that dropped more or grew more."""
        return {"drops_more": float(self.num_drops), "grows_more": float(self.num_grows)}

    def state_dict(self) -> dict[str, Any]:
        """The whole history."""
        return {"gaps": self.gaps, "losses": self.losses, "num_drops": self.num_drops, "num_grows": self.num_grows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.gaps, self.losses = list(state["gaps"]), list(state["losses"])
        self.num_drops, self.num_grows = state["num_drops"], state["num_grows"]

    def _changes(self, values: Sequence[float]) -> list[float]:
        recent = values[-self.window - 1 :]
        return [after - before for before, after in pairwise(recent)]


def _share(changes: Sequence[float], above: float, or_equal: bool) -> float:
    return sum(change > above or (or_equal and change == above) for change in changes) / len(changes)


@dataclass(frozen=True)
class UpdateSchedule:
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
        update_schedule: when and how much.
        growth: "gradient" = where the gradient of the last step is largest, "random" = anywhere.
        trend: makes the density follow the history of the run; None = it stays what it is in every layer.
        seed: of the first masks and of random growth.
    """

    def __init__(
        self,
        masked: MaskedWeights,
        density: float,
        distribution: Distribution,
        update_schedule: UpdateSchedule,
        growth: Literal["gradient", "random"] = "gradient",
        trend: DensityTrend | None = None,
        seed: int = 0,
    ) -> None:
        self.masked, self.update_schedule, self.growth, self.trend, self.seed = (
            masked,
            update_schedule,
            growth,
            trend,
            seed,
        )
        shapes = {name: weight.shape for name, weight in masked.weights.items()}
        self.counts = distribution(shapes, weight_budget(masked.num_weights, density))
        self.num_updates = 0

    def start(self, stage: str) -> None:
        """Masks at random places."""
        self.masked.put(random_masks(self.masked.weights, self.counts, self.seed, "masks"))

    def after_step(self, optimiser: torch.optim.Optimizer, done: float, step: int) -> None:
        """Hold the masks; move them when the schedule says so."""
        self.masked.hold(optimiser)
        if self.update_schedule.due(done, step):
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

    def rank_state(self) -> dict[str, Tensor]:
        """Nothing differs between ranks."""
        return {}

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to load."""

    @torch.no_grad()
    def _update(self, done: float, step: int) -> None:
        rate, weights = self.update_schedule.drop_fraction(done), self.masked.weights
        extra_drop, extra_grow = self.trend.extra(done) if self.trend is not None else (0.0, 0.0)
        growths, sizes = self._growth_scores(step), score_by_magnitude(weights)
        new, counts = {}, count_kept(self.masked.masks)
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
        return (
            score_by_gradient(weights) if self.growth == "gradient" else random_scores(weights, self.seed, "grow", step)
        )
