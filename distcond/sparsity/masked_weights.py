"""One mask per weight, held beside the optimiser: gradients stay dense, so growth can see where they point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from distcond.layers.masked import MaskedNoisyConv2d
from distcond.sparsity.masks import Maskable, Masks, density, fit_saved_masks, num_entries, require_agreement
from distcond.sparsity.update import momentum_buffers


class MaskedWeights:
    """The weights of some layers and their masks; no masks yet = dense.

    Layers whose noise is masked are told about every new mask.
    """

    def __init__(self, layers: Mapping[str, Maskable]) -> None:
        self.layers = layers
        self.weights: dict[str, Tensor] = {name: layer.weight for name, layer in layers.items()}
        self.masks: Masks = {}
        self._factors: list[Tensor] = []

    @property
    def num_weights(self) -> int:
        """Maskable weights in all."""
        return num_entries(self.weights)

    def put(self, masks: Masks) -> None:
        """Take new masks, the same on every rank, and zero what they leave out.

        Raises:
            RuntimeError: another rank has other masks.
        """
        require_agreement(masks)
        self._set(masks)
        self.hold()

    @torch.no_grad()
    def hold(self, optimiser: torch.optim.Optimizer | None = None) -> None:
        """Zero the weights outside the masks, and with `optimiser` its momentum there too; no host synchronisation."""
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
        """Take saved masks; the weights come from the same checkpoint and need no zeroing.

        Raises:
            ConfigError: masks of another network.
        """
        self._set(fit_saved_masks(state, self.weights) if state else {})

    @torch.no_grad()
    def _set(self, masks: Masks) -> None:
        self.masks = masks
        # In the weights' own number format: a product of unequal formats falls back to one kernel per layer.
        self._factors = [mask.to(self.weights[name].dtype) for name, mask in masks.items()]
        for name, mask in masks.items():
            layer = self.layers[name]
            if isinstance(layer, MaskedNoisyConv2d):
                layer.mask.copy_(mask)
