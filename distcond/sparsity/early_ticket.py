"""A mask drawn once, when magnitude pruning has stopped changing its mind: search dense, then train the ticket."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from distcond.sparsity.distribution import weight_budget
from distcond.sparsity.masked_weights import MaskedWeights
from distcond.sparsity.masks import Masks, Weights, fit_saved_masks, largest_masks, mask_difference, num_entries


class EarlyTicket:
    """Search in the stage named `search`; every other stage trains the ticket that its start finds in the weights.

    After each epoch of the search the `density` largest weights of the searched layers make a mask. The search ends
    when the newest mask differs from each of the `queue_length` - 1 before it in at most `tolerance` of its entries.
    Weights keep their values; the mask then never changes.

    Args:
        searched: the weights the masks of the search are made of.
        masked: the weights the ticket is drawn from.
        density: kept share, by magnitude over all layers together, in (0, 1).
        search: name of the dense stage.
        queue_length: masks that have to agree.
        tolerance: largest distance at which two masks count as the same, as a share of all entries.
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
        self.found = False

    def start(self, stage: str) -> None:
        """Draw the ticket, unless this is the search."""
        self.stage = stage
        if stage != self.search:
            self.queue, self.distances = [], []
            self.masked.put(largest_masks(self.masked.weights, weight_budget(self.masked.num_weights, self.density)))

    def after_step(self, optimiser: torch.optim.Optimizer, done: float, step: int) -> None:
        """Hold the ticket, weights and momentum; nothing to hold in the search."""
        self.masked.hold(optimiser)

    def after_epoch(self, record: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> bool:
        """In the search, compare the mask of this epoch with the last ones; True ends the search."""
        if self.stage != self.search:
            return False
        newest = largest_masks(self.searched, weight_budget(num_entries(self.searched), self.density))
        self.distances = [mask_difference(newest, older) for older in self.queue]
        self.queue = [*self.queue, newest][-self.queue_length + 1 :]
        full = len(self.distances) == self.queue_length - 1
        self.found = full and max(self.distances) <= self.tolerance
        return self.found

    def report(self) -> dict[str, float]:
        """Density, whether the search ended by itself, and while it goes on its distances, the oldest mask's first."""
        distances = {f"distance_{place}": distance for place, distance in enumerate(self.distances)}
        return {"density": self.masked.density(), "found": float(self.found), **distances}

    def state_dict(self) -> dict[str, Any]:
        """Stage, ticket, and the masks and distances of the search."""
        return {
            "stage": self.stage,
            "masks": self.masked.state_dict(),
            "queue": list(self.queue),
            "distances": list(self.distances),
            "found": self.found,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.masked.load_state_dict(state["masks"])
        self.queue = [fit_saved_masks(masks, self.searched) for masks in state["queue"]]
        self.stage, self.distances, self.found = state["stage"], list(state["distances"]), state["found"]

    def rank_state(self) -> dict[str, Tensor]:
        """Nothing differs between ranks."""
        return {}

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to load."""
