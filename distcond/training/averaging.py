"""Weight averaging: an exponential moving average of the weights (Izmailov et al. 2018; Gowal et al. 2020).

    average <- d * average + (1 - d) * weights,   d = min(decay, (1 + n) / (10 + n)) at update n

Running statistics are averaged in the same way: of both branches, of every width, on each rank its own. Training does
not use the average. Validation, checkpoint selection and the test do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from distcond.distributed.running_statistics import averageable_tensors, overlay_average, running_statistics


class WeightAverage:
    """The average of `model`'s parameters and running statistics, updated once per step.

    Args:
        model: the network in training; its current weights are the initial average.
        decay: d above, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._live = averageable_tensors(model)
        self._mean = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Average in the current weights. Does not synchronise with the host."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self._mean.values()), list(self._live.values()), 1 - decay)
        self.updates += 1

    def copy_to(self, model: nn.Module) -> None:
        """Replace the weights of `model`, a copy of the network, by the average."""
        overlay_average(model, self._mean)

    def state_dict(self) -> dict[str, Any]:
        """The part that all ranks share: the number of updates and the averaged parameters."""
        statistics = running_statistics(self._mean)
        return {"updates": self.updates, "parameters": {n: t for n, t in self._mean.items() if n not in statistics}}

    def rank_state(self) -> dict[str, Tensor]:
        """The part that differs between ranks: the averaged running statistics."""
        return running_statistics(self._mean)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any], rank_state: Mapping[str, Tensor]) -> None:
        """Resume from a `state_dict` and this rank's `rank_state`."""
        self.updates = state["updates"]
        for name, tensor in (dict(state["parameters"]) | dict(rank_state)).items():
            self._mean[name].copy_(tensor)
