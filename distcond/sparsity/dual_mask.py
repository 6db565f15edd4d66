"""A clean and an adversarial mask over one weight, which learn in alternate epochs where to keep weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from distcond.errors import ConfigError
from distcond.layers.masked import MaskedConv2d
from distcond.sparsity.distribution import (
    LayerCounts,
    RedistributionPlan,
    layer_drops,
    momentum_shares,
    redistribute,
    uniform,
    weight_budget,
)
from distcond.sparsity.masks import (
    Masks,
    average_over_ranks,
    count_kept,
    density,
    fit_saved_masks,
    mask_from_indices,
    num_entries,
    random_order,
    require_agreement,
)
from distcond.sparsity.update import drop, grow, momentum_buffers

CLEAN, ADV = False, True
PATHS = (CLEAN, ADV)


class DualMasks:
    """The masks of both paths. Layers store and apply them in forward; here weights outside both are set to zero.

    Enables the accumulation of dense gradients in every layer.
    """

    def __init__(self, layers: Mapping[str, MaskedConv2d]) -> None:
        self.layers = layers
        self.weights: dict[str, Tensor] = {name: layer.weight for name, layer in layers.items()}
        self._union: list[Tensor] = []
        for layer in layers.values():
            layer.dense_gradients = {path: torch.zeros_like(layer.weight.detach()) for path in PATHS}

    @property
    def num_weights(self) -> int:
        """Number of maskable weights."""
        return num_entries(self.weights)

    def masks(self, path: bool) -> Masks:
        """The masks of one path."""
        return {name: layer.mask(path) for name, layer in self.layers.items()}

    def gradients(self, path: bool) -> dict[str, Tensor]:
        """The accumulated dense gradients of one path."""
        return {name: layer.dense_gradients[path] for name, layer in self.layers.items()}

    def set_masks(self, path: bool, masks: Masks) -> None:
        """Set the masks of one path, which must be the same on every rank.

        Raises:
            RuntimeError: another rank has different masks.
        """
        require_agreement(masks)
        self._store(path, masks)

    @torch.no_grad()
    def apply_masks(self, optimiser: torch.optim.Optimizer | None = None) -> None:
        """Zero the weights, and with `optimiser` their momentum, that neither path keeps."""
        torch._foreach_mul_(list(self.weights.values()), self._union)
        buffers = list(momentum_buffers(self.weights, optimiser).values()) if optimiser is not None else []
        if buffers:
            torch._foreach_mul_(buffers, self._union)

    def report(self) -> dict[str, float]:
        """Densities of both paths and of their union; the share of the clean path's weights that both keep."""
        clean, adv = self.masks(CLEAN), self.masks(ADV)
        both = {name: clean[name] & adv[name] for name in clean}
        either = {name: clean[name] | adv[name] for name in clean}
        densities = {"density": density(clean), "density_adv": density(adv), "density_union": density(either)}
        return densities | {"overlap": density(both) / densities["density"]}

    def state_dict(self) -> dict[str, Any]:
        """Masks of both paths."""
        return {"masks": {str(path): self.masks(path) for path in PATHS}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict`.

        Raises:
            ConfigError: masks of another network.
        """
        for path in PATHS:
            self._store(path, fit_saved_masks(state["masks"][str(path)], self.weights))

    def rank_state(self) -> dict[str, Tensor]:
        """Accumulated gradients by `path/name`. They differ between ranks until the end of an epoch."""
        return {f"{path}/{name}": total for path in PATHS for name, total in self.gradients(path).items()}

    @torch.no_grad()
    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from `rank_state`."""
        for name, total in self.rank_state().items():
            total.copy_(state[name])

    @torch.no_grad()
    def _store(self, path: bool, masks: Masks) -> None:
        for name, mask in masks.items():
            self.layers[name].mask(path).copy_(mask)
        unions = [layer.clean_mask | layer.adv_mask for layer in self.layers.values()]
        self._union = [union.to(w.dtype) for union, w in zip(unions, self.weights.values(), strict=True)]


class DualMaskTraining:
    """Sparse momentum for each path, with that path's own dense gradients.

    Epochs count from 0. After an even epoch the clean masks are updated; their layer densities follow the mean of both
    paths' shares of momentum. After an odd epoch the adversarial masks are updated to the same layer densities. An
    update happens after the first step of the next epoch, and none follows the last epoch, so the saved network is the
    validated one.

    Args:
        dual: the masks.
        density: kept share of the weights per path, in (0, 1].
        overlap: initial share of a path's kept weights that the other path keeps too; None = independent masks.
        momentum: decay of the dense gradients per step.
        drop_fraction: share of the stage done -> share of the kept weights that an update drops.
        seed: seed of the initial masks.

    Raises:
        ConfigError: two masks of this density always overlap more than `overlap`.
    """

    def __init__(
        self,
        dual: DualMasks,
        density: float,
        overlap: float | None,
        momentum: float,
        drop_fraction: Callable[[float], float],
        seed: int = 0,
    ) -> None:
        least = max(0.0, 2 - 1 / density)
        if overlap is not None and overlap < least:
            raise ConfigError(f"method.overlap={overlap:g}: masks of density {density:g} share at least {least:.3g}")
        self.dual, self.overlap, self.momentum = dual, overlap, momentum
        self.drop_fraction, self.seed = drop_fraction, seed
        self.budget = weight_budget(dual.num_weights, density)
        self.due: int | None = None  # the epoch whose update is pending
        self.targets: list[int] = []  # kept weights per layer for the adversarial path

    def start(self, stage: str) -> None:
        """Set random masks with uniform density and the configured overlap in every layer."""
        counts = uniform({name: weight.shape for name, weight in self.dual.weights.items()}, self.budget)
        pairs = {name: self._pair(name, weight, counts[name]) for name, weight in self.dual.weights.items()}
        self.dual.set_masks(CLEAN, {name: clean for name, (clean, _) in pairs.items()})
        self.dual.set_masks(ADV, {name: adv for name, (_, adv) in pairs.items()})
        self.dual.apply_masks()

    @torch.no_grad()
    def after_step(self, optimiser: torch.optim.Optimizer, done: float, step: int) -> None:
        """Apply the masks; update one path after the first step of an epoch; decay the accumulated gradients."""
        self.dual.apply_masks(optimiser)
        if self.due is not None:
            average_over_ranks(self._gradients())
            self._update(self.due % 2 == 1, self.drop_fraction(done))
            self.dual.apply_masks(optimiser)
            self.due = None
        torch._foreach_mul_(self._gradients(), self.momentum)

    def after_epoch(self, record: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> bool:
        """Average the gradients over ranks and mark an update as pending."""
        average_over_ranks(self._gradients())
        self.due = int(record["epoch"]) - 1
        return False

    def report(self) -> dict[str, float]:
        """Densities of both paths and of their union, and the overlap."""
        return self.dual.report()

    def state_dict(self) -> dict[str, Any]:
        """Masks, pending update and layer targets."""
        return {**self.dual.state_dict(), "due": self.due, "targets": list(self.targets)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from `state_dict`."""
        self.dual.load_state_dict(state)
        self.due, self.targets = state["due"], list(state["targets"])

    def rank_state(self) -> dict[str, Tensor]:
        """Accumulated gradients of both paths on this rank."""
        return self.dual.rank_state()

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Resume from `rank_state`."""
        self.dual.load_rank_state(state)

    def _pair(self, name: str, weight: Tensor, count: int) -> tuple[Tensor, Tensor]:
        size = weight.numel()
        order = random_order(size, self.seed, "masks", name)
        if self.overlap is None:
            other = random_order(size, self.seed, "adversarial masks", name)
            return mask_from_indices(weight, order[:count]), mask_from_indices(weight, other[:count])
        shared = max(int(self.overlap * count + 0.5), 2 * count - size)
        return mask_from_indices(weight, order[:count]), mask_from_indices(
            weight, order[count - shared : 2 * count - shared]
        )

    def _update(self, path: bool, rate: float) -> None:
        masks, weights, gradients = self.dual.masks(path), self.dual.weights, self.dual.gradients(path)
        plan = self._plan(list(count_kept(masks).values()), path, rate)
        new = {}
        for (name, mask), drops, grows in zip(masks.items(), plan.drops, plan.grows, strict=True):
            new[name] = grow(drop(mask, weights[name].abs(), drops), gradients[name].abs(), grows)
        self.dual.set_masks(path, new)

    def _plan(self, counts: list[int], path: bool, rate: float) -> RedistributionPlan:
        """The clean path decides the layer densities, the adversarial path follows."""
        layers = LayerCounts(counts, [weight.numel() for weight in self.dual.weights.values()], [1] * len(counts))
        if path == CLEAN:
            plan = redistribute(layers, self._shares(), rate, self.budget)
            self.targets = [n - drops + grows for n, drops, grows in zip(counts, *plan, strict=True)]
            return plan
        default = layer_drops(layers, self._shares(), rate)
        drops = [max(n, count - target) for n, count, target in zip(default, counts, self.targets, strict=True)]
        grows = [target - count + n for target, count, n in zip(self.targets, counts, drops, strict=True)]
        return RedistributionPlan(drops, grows)

    def _shares(self) -> list[float]:
        """Each layer's share of momentum, averaged over both paths."""
        sums = [{name: total.abs() for name, total in self.dual.gradients(path).items()} for path in PATHS]
        clean, adv = (momentum_shares(total, self.dual.masks(path)) for total, path in zip(sums, PATHS, strict=True))
        return [(c + a) / 2 for c, a in zip(clean, adv, strict=True)]

    def _gradients(self) -> list[Tensor]:
        return [total for path in PATHS for total in self.dual.gradients(path).values()]
