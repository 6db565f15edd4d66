"""One mask per weight, applied after each optimiser step. Gradients stay dense, which mask growth needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from distcond.layers.masked import MaskedNoisyConv2d
from distcond.sparsity.masks import Maskable, Masks, density, fit_saved_masks, num_entries, require_agreement
from distcond.sparsity.update import momentum_buffers


class MaskedWeights:
    """The weights of some layers and their masks; dense until masks are set.

    Layers with masked noise get a copy of their mask.
    """

    def __init__(self, layers: Mapping[str, Maskable]) -> None:
        self.layers = layers
        self.weights: dict[str, Tensor] = {name: layer.weight for name, layer in layers.items()}
        self.masks: Masks = {}
        self._factors: list[Tensor] = []

    @property
    def num_weights(self) -> int:
        """Number of maskable weights."""
        return num_entries(self.weights)

    def set_masks(self, masks: Masks) -> None:
        """Set masks, which must be the same on every rank, and apply them to the weights.

        Raises:
            RuntimeError: another rank has different masks.
        """
        require_agreement(masks)
        self._store(masks)
        self.apply_masks()

    @torch.no_grad()
    def apply_masks(self, optimiser: torch.optim.Optimizer | None = None) -> None:
        """Zero the weights outside the masks, and with `optimiser` their momentum. No host synchronisation."""
        if not self._factors:
            return
        torch._foreach_mul_(list(self.weights.values()), self._factors)
        buffers = list(momentum_buffers(self.weights, optimiser).values()) if optimiser is not None else []
        if buffers:
            torch._foreach_mul_(buffers, self._factors)

    def density(self) -> float:
        """Kept share of the maskable weights."""
        return density(self.masks)

    def state_dict(self) -> dict[str, Any]:
        """The masks."""
        return dict(self.masks)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict`. The weights come from the same checkpoint and are masked already.

        Raises:
            ConfigError: masks of another network.
        """
        self._store(fit_saved_masks(state, self.weights) if state else {})

    @torch.no_grad()
    def _store(self, masks: Masks) -> None:
        self.masks = masks
        # In the weights' dtype: a product of mixed dtypes falls back to one kernel per layer.
        self._factors = [mask.to(self.weights[name].dtype) for name, mask in masks.items()]
        for name, mask in masks.items():
            layer = self.layers[name]
            if isinstance(layer, MaskedNoisyConv2d):
                layer.mask.copy_(mask)
