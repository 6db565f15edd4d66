"""Weight averaging: a second set of weights that follows the trained one (Izmailov et al. 2018; Gowal et al. 2020).

    average <- d * average + (1 - d) * weights,   d = min(decay, (1 + n) / (10 + n)) at update n

The running statistics of every normalisation are averaged alike, of both branches and of every width, on each rank its
own. Training never looks at the average; validation, the choice of the best checkpoint and the test do.
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
        model: the network that trains; its present weights are the first average.
        decay: d above, in (0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self._live = averageable_tensors(model)
        self._mean = {name: tensor.detach().clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Follow the weights as they are now; no host synchronisation."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self._mean.values()), list(self._live.values()), 1 - decay)
        self.updates += 1

    def put_into(self, model: nn.Module) -> None:
        """Give a copy of the network the average for its weights."""
        overlay_average(model, self._mean)

    def state_dict(self) -> dict[str, Any]:
        """What all ranks share: the number of updates and the averaged parameters."""
        own = running_statistics(self._mean)
        return {"updates": self.updates, "parameters": {n: t for n, t in self._mean.items() if n not in own}}

    def statistics(self) -> dict[str, Tensor]:
        """The averaged running statistics, which differ between ranks."""
        return running_statistics(self._mean)

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any], own: Mapping[str, Tensor]) -> None:
        """Continue from `state_dict` and this rank's `running_statistics`."""
        self.updates = state["updates"]
        for name, tensor in (dict(state["parameters"]) | dict(own)).items():
            self._mean[name].copy_(tensor)
