"""What the last epochs say about capacity: overfitting asks for fewer weights, a rising validation loss for more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any


@dataclass
class Trend:
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
