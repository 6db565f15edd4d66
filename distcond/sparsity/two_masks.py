"""Two masks over one weight: what the clean and the adversarial path keep, and what both leave at zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from distcond.layers.masked import MaskedConv2d
from distcond.sparsity.agreement import require_agreement
from distcond.sparsity.masks import Masks, density, fitted, num_entries
from distcond.sparsity.score import momentum_buffers

CLEAN, ADV = False, True
PATHS = (CLEAN, ADV)


class TwoMasks:
    """The masks live in the layers, which apply them in forward; weights outside both are held at zero here.

    Each layer is given a tensor per path to sum its dense gradients in.
    """

    def __init__(self, layers: Mapping[str, MaskedConv2d]) -> None:
        self.layers = layers
        self.weights: dict[str, Tensor] = {name: layer.weight for name, layer in layers.items()}
        self._union: list[Tensor] = []
        for layer in layers.values():
            layer.dense_gradients = {path: torch.zeros_like(layer.weight.detach()) for path in PATHS}

    @property
    def num_weights(self) -> int:
        """Maskable weights in all."""
        return num_entries(self.weights)

    def masks(self, path: bool) -> Masks:
        """The masks of one path."""
        return {name: layer.mask(path) for name, layer in self.layers.items()}

    def gradients(self, path: bool) -> dict[str, Tensor]:
        """The sums of one path's dense gradients."""
        return {name: layer.dense_gradients[path] for name, layer in self.layers.items()}

    def put(self, path: bool, masks: Masks) -> None:
        """Take new masks for one path, the same on every rank.

        Raises:
            RuntimeError: another rank has other masks.
        """
        require_agreement(masks)
        self._set(path, masks)

    @torch.no_grad()
    def hold(self, optimiser: torch.optim.Optimizer | None = None) -> None:
        """Zero weights and momentum that neither path keeps: nothing but decay would act on them."""
        torch._foreach_mul_(list(self.weights.values()), self._union)
        buffers = list(momentum_buffers(self.weights, optimiser).values()) if optimiser is not None else []
        if buffers:
            torch._foreach_mul_(buffers, self._union)

    def report(self) -> dict[str, float]:
        """Densities of the paths and of what either keeps; the share of the clean path's weights that both keep."""
        clean, adv = self.masks(CLEAN), self.masks(ADV)
        both = {name: clean[name] & adv[name] for name in clean}
        either = {name: clean[name] | adv[name] for name in clean}
        found = {"density": density(clean), "density_adv": density(adv), "density_union": density(either)}
        return found | {"overlap": density(both) / found["density"]}

    def state_dict(self) -> dict[str, Any]:
        """Masks of both paths."""
        return {"masks": {str(path): self.masks(path) for path in PATHS}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`.

        Raises:
            ConfigError: masks of another network.
        """
        for path in PATHS:
            self._set(path, fitted(state["masks"][str(path)], self.weights))

    def sums(self) -> dict[str, Tensor]:
        """Sums of gradients by `path/name`: this rank's own until an epoch's end."""
        return {f"{path}/{name}": total for path in PATHS for name, total in self.gradients(path).items()}

    @torch.no_grad()
    def load_sums(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `sums`."""
        for name, total in self.sums().items():
            total.copy_(state[name])

    @torch.no_grad()
    def _set(self, path: bool, masks: Masks) -> None:
        for name, mask in masks.items():
            self.layers[name].mask(path).copy_(mask)
        unions = [layer.clean_mask | layer.adv_mask for layer in self.layers.values()]
        self._union = [union.to(w.dtype) for union, w in zip(unions, self.weights.values(), strict=True)]
