"""A static mask found early in training: train densely until magnitude masks stop changing, then train the ticket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from distcond.sparsity.distribution import weight_budget
from distcond.sparsity.masked_weights import MaskedWeights
from distcond.sparsity.masks import Masks, Weights, fit_saved_masks, largest_masks, mask_difference, num_entries


class EarlyTicket:
    """Searches for a ticket in the stage `search`; any other stage masks the weights at its start and trains.

    After each epoch of the search, the largest `density` share of the searched weights forms a mask. The search ends
    when the newest mask differs from each of the `queue_length` - 1 masks before it in at most `tolerance` of its
    entries. Weights keep their values. The mask of the ticket never changes.

    Args:
        searched: the weights whose masks are compared in the search.
        masked: the weights that the ticket masks.
        density: kept share, by global magnitude, in (0, 1).
        search: name of the dense stage.
        queue_length: number of masks that must agree.
        tolerance: largest share of entries in which agreeing masks differ.
    """

    def __init__(
        self,
        searched: Weights,
        masked: MaskedWeights,
        density: float,
        search: str,
        queue_length: int = 5,
        tolerance: float = 0.08,
    ) -> None:
        self.searched, self.masked, self.density = searched, masked, density
        self.search, self.queue_length, self.tolerance = search, queue_length, tolerance
        self.stage = search
        self.queue: list[Masks] = []
        self.distances: list[float] = []
        self.converged = False

    def start(self, stage: str) -> None:
        """Mask the largest weights, unless this is the search."""
        self.stage = stage
        if stage != self.search:
            self.queue, self.distances = [], []
            self.masked.set_masks(
                largest_masks(self.masked.weights, weight_budget(self.masked.num_weights, self.density))
            )

    def after_step(self, optimiser: torch.optim.Optimizer, done: float, step: int) -> None:
        """Apply the ticket to weights and momentum; does nothing in the search."""
        self.masked.apply_masks(optimiser)

    def after_epoch(self, record: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> bool:
        """In the search, compare this epoch's mask with the last ones; True ends the search."""
        if self.stage != self.search:
            return False
        newest = largest_masks(self.searched, weight_budget(num_entries(self.searched), self.density))
        self.distances = [mask_difference(newest, older) for older in self.queue]
        self.queue = [*self.queue, newest][-self.queue_length + 1 :]
        full = len(self.distances) == self.queue_length - 1
        self.converged = full and max(self.distances) <= self.tolerance
        return self.converged

    def report(self) -> dict[str, float]:
        """Density, whether the search converged, and during the search the distances to earlier masks, oldest first."""
        distances = {f"distance_{index}": distance for index, distance in enumerate(self.distances)}
        return {"density": self.masked.density(), "found": float(self.converged), **distances}

    def state_dict(self) -> dict[str, Any]:
        """Stage, ticket, and the masks and distances of the search."""
        return {
            "stage": self.stage,
            "masks": self.masked.state_dict(),
            "queue": list(self.queue),
            "distances": list(self.distances),
            "found": self.converged,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict`."""
        self.masked.load_state_dict(state["masks"])
        self.queue = [fit_saved_masks(masks, self.searched) for masks in state["queue"]]
        self.stage, self.distances, self.converged = state["stage"], list(state["distances"]), state["found"]

    def rank_state(self) -> dict[str, Tensor]:
        """Nothing differs between ranks."""
        return {}

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to load."""
