"""A dynamic mask: every few steps each layer drops weights and grows as many, or as many as a trend decides.

The trend reads the last epochs: overfitting reduces the number of weights, a rising validation loss increases it.
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
    """History of the robust generalisation gap (train RA - val RA) and of the adversarial validation loss.

    Decides over the last `window` differences between consecutive epochs. Extra weights are dropped if at least
    `threshold` of the gap's differences are positive, and grown if at least `threshold` of the loss's differences are
    not negative. Both can hold at once; neither does before the share `start` of the stage or a full window.
    """

    window: int = 4
    threshold: float = 0.5
    start: float = 0.5
    extra_drop: float = 0.4  # extra weights dropped, as a share of those an update drops
    extra_grow: float = 0.05  # extra weights grown, as a share of those dropped
    gaps: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    num_drops: int = 0
    num_grows: int = 0

    def add_epoch(self, record: Mapping[str, Any]) -> None:
        """Add an epoch's history record: "train_ra", and "ra" and "ra_loss" of the most robust point of "val"."""
        point = max(record["val"], key=lambda point: point.get("blend_t", point["lam"]))
        self.gaps.append(record["train_ra"] - point["ra"])
        self.losses.append(point["ra_loss"])

    def extra_shares(self, done: float) -> tuple[float, float]:
        """Extra shares to drop and to grow in an update at the share `done` of the stage; counted in `report`."""
        if done <= self.start or len(self.gaps) <= self.window:
            return 0.0, 0.0
        gap_changes, loss_changes = self._recent_changes(self.gaps), self._recent_changes(self.losses)
        overfits = sum(change > 0 for change in gap_changes) / len(gap_changes) >= self.threshold
        worsens = sum(change >= 0 for change in loss_changes) / len(loss_changes) >= self.threshold
        self.num_drops += overfits
        self.num_grows += worsens
        return self.extra_drop * overfits, self.extra_grow * worsens

    def report(self) -> dict[str, float]:
        """Number of updates with extra drops and with extra growth."""
        return {"drops_more": float(self.num_drops), "grows_more": float(self.num_grows)}

    def state_dict(self) -> dict[str, Any]:
        """The history and the counts."""
        return {"gaps": self.gaps, "losses": self.losses, "num_drops": self.num_drops, "num_grows": self.num_grows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict`."""
        self.gaps, self.losses = list(state["gaps"]), list(state["losses"])
        self.num_drops, self.num_grows = state["num_drops"], state["num_grows"]

    def _recent_changes(self, values: Sequence[float]) -> list[float]:
        return [after - before for before, after in pairwise(values[-self.window - 1 :])]


@dataclass(frozen=True)
class UpdateSchedule:
    """When masks are updated and how many weights are dropped."""

    every: int  # steps between updates
    every_late: int  # steps between updates in the second half of the run
    drop_fraction: Callable[[float], float]  # share of the stage done -> share of the kept weights to drop

    def due(self, done: float, step: int) -> bool:
        """Whether an update follows this step. Never after the last step: new weights would stay untrained."""
        return done < 1 and step % (self.every_late if done > 0.5 else self.every) == 0


class DropAndGrow:
    """Drops the smallest weights and grows others within each layer. Momentum is masked like the weights.

    Args:
        masked: the weights.
        density: initial kept share of all weights, in (0, 1].
        distribution: distributes the density over layers.
        update_schedule: when to update, and how much to drop.
        growth: "gradient" = grow where the last step's gradient is largest, "random" = anywhere.
        trend: adapts the density to the history of the run; None = constant density in every layer.
        seed: seed of the initial masks and of random growth.
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
        self.masked, self.update_schedule = masked, update_schedule
        self.growth, self.trend, self.seed = growth, trend, seed
        shapes = {name: weight.shape for name, weight in masked.weights.items()}
        self.counts = distribution(shapes, weight_budget(masked.num_weights, density))
        self.num_updates = 0

    def start(self, stage: str) -> None:
        """Set random masks."""
        self.masked.set_masks(random_masks(self.masked.weights, self.counts, self.seed, "masks"))

    def after_step(self, optimiser: torch.optim.Optimizer, done: float, step: int) -> None:
        """Apply the masks; update them if the schedule is due."""
        self.masked.apply_masks(optimiser)
        if self.update_schedule.due(done, step):
            self._update(done, step)

    def after_epoch(self, record: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> bool:
        """Add the epoch to the trend."""
        if self.trend is not None:
            self.trend.add_epoch(record)
        return False

    def report(self) -> dict[str, float]:
        """Density, number of updates, and how often the trend intervened."""
        numbers = {"density": self.masked.density(), "updates": float(self.num_updates)}
        return numbers | (self.trend.report() if self.trend is not None else {})

    def state_dict(self) -> dict[str, Any]:
        """Masks, number of updates and the trend's history."""
        trend = self.trend.state_dict() if self.trend is not None else None
        return {"masks": self.masked.state_dict(), "num_updates": self.num_updates, "trend": trend}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict`."""
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
        extra_drop, extra_grow = self.trend.extra_shares(done) if self.trend is not None else (0.0, 0.0)
        growth_scores, magnitudes = self._growth_scores(step), score_by_magnitude(weights)
        new, counts = {}, count_kept(self.masked.masks)
        for name, mask in self.masked.masks.items():
            if counts[name] == mask.numel():
                new[name] = mask  # as in the authors' code, a fully dense layer never drops weights
                continue
            drops = num_dropped(counts[name], rate)
            extra_drops = min(math.ceil(rate * extra_drop * counts[name]), counts[name] - drops - 1)
            # Rounded down as in the authors' code: with fewer than 20 drops, 5 % extra is none.
            grows = min(int(drops * (1.0 + extra_grow)), mask.numel() - counts[name] + drops + extra_drops)
            new[name] = grow(drop(mask, magnitudes[name], drops + extra_drops), growth_scores[name], grows)
        self.masked.set_masks(new)
        self.num_updates += 1

    def _growth_scores(self, step: int) -> dict[str, Tensor]:
        weights = self.masked.weights
        return (
            score_by_gradient(weights) if self.growth == "gradient" else random_scores(weights, self.seed, "grow", step)
        )
