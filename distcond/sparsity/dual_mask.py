"""Two masks over one weight, the clean and the adversarial path's, that learn in turn where to be dense."""

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
    mask_at,
    num_entries,
    random_order,
    require_agreement,
)
from distcond.sparsity.update import drop, grow, momentum_buffers

CLEAN, ADV = False, True
PATHS = (CLEAN, ADV)


class DualMasks:
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
            self._set(path, fit_saved_masks(state["masks"][str(path)], self.weights))

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


class DualMaskTraining:
    """Sparse momentum for each path, with that path's own dense gradients.

    Epochs are counted from 0. After an even one the clean masks are updated, with layer densities that follow the mean
    of both paths' shares of momentum; after an odd one the adversarial masks are, and take over the same layer
    densities. The update happens after the first step of the next epoch, and none follows the last: the network that
    was validated is then the one that is saved.

    Args:
        two: the masks, in their layers.
        density: kept share of the weights per path, in (0, 1].
        overlap: share of a path's weights that the other path has too, at the start; None = independent masks.
        momentum: decay of the dense gradients per step.
        drop_fraction: share of the stage done to the share of kept weights that an update drops.
        seed: of the first masks.

    Raises:
        ConfigError: two masks of this density overlap more than `overlap` in any case.
    """

    def __init__(
        self,
        two: DualMasks,
        density: float,
        overlap: float | None,
        momentum: float,
        drop_fraction: Callable[[float], float],
        seed: int = 0,
    ) -> None:
        least = max(0.0, 2 - 1 / density)
        if overlap is not None and overlap < least:
            raise ConfigError(f"method.overlap={overlap:g}: masks of density {density:g} share at least {least:.3g}")
        self.two, self.overlap, self.momentum = two, overlap, momentum
        self.drop_fraction, self.seed = drop_fraction, seed
        self.budget = weight_budget(two.num_weights, density)
        self.due: int | None = None  # the epoch whose update has not happened yet
        self.targets: list[int] = []  # kept weights per layer that the adversarial path takes over

    def start(self, stage: str) -> None:
        """Uniform densities, random places, the overlap that was asked for in every layer."""
        counts = uniform({name: weight.shape for name, weight in self.two.weights.items()}, self.budget)
        pairs = {name: self._pair(name, weight, counts[name]) for name, weight in self.two.weights.items()}
        self.two.put(CLEAN, {name: clean for name, (clean, _) in pairs.items()})
        self.two.put(ADV, {name: adv for name, (_, adv) in pairs.items()})
        self.two.hold()

    @torch.no_grad()
    def after_step(self, optimiser: torch.optim.Optimizer, done: float, step: int) -> None:
        """Hold the masks; update one path where an epoch has just begun; let the gradients seen so far fade."""
        self.two.hold(optimiser)
        if self.due is not None:
            average_over_ranks(self._gradients())
            self._update(self.due % 2 == 1, self.drop_fraction(done))
            self.two.hold(optimiser)
            self.due = None
        torch._foreach_mul_(self._gradients(), self.momentum)

    def after_epoch(self, record: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> bool:
        """Note that an update is due; the gradients are averaged now."""
        average_over_ranks(self._gradients())
        self.due = int(record["epoch"]) - 1
        return False

    def report(self) -> dict[str, float]:
        """Densities of the paths and of their union, and the overlap."""
        return self.two.report()

    def state_dict(self) -> dict[str, Any]:
        """Masks and what is due."""
        return {**self.two.state_dict(), "due": self.due, "targets": list(self.targets)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.two.load_state_dict(state)
        self.due, self.targets = state["due"], list(state["targets"])

    def rank_state(self) -> dict[str, Tensor]:
        """The sums of both paths' gradients on this rank."""
        return self.two.sums()

    def load_rank_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from `rank_state`."""
        self.two.load_sums(state)

    def _pair(self, name: str, weight: Tensor, count: int) -> tuple[Tensor, Tensor]:
        size = weight.numel()
        order = random_order(size, self.seed, "masks", name)
        if self.overlap is None:
            other = random_order(size, self.seed, "adversarial masks", name)
            return mask_at(weight, order[:count]), mask_at(weight, other[:count])
        shared = max(int(self.overlap * count + 0.5), 2 * count - size)
        return mask_at(weight, order[:count]), mask_at(weight, order[count - shared : 2 * count - shared])

    def _update(self, path: bool, rate: float) -> None:
        masks, weights, gradients = self.two.masks(path), self.two.weights, self.two.gradients(path)
        plan = self._plan(list(count_kept(masks).values()), path, rate)
        new = {}
        for (name, mask), drops, grows in zip(masks.items(), plan.drops, plan.grows, strict=True):
            new[name] = grow(drop(mask, weights[name].abs(), drops), gradients[name].abs(), grows)
        self.two.put(path, new)

    def _plan(self, counts: list[int], path: bool, rate: float) -> RedistributionPlan:
        """The clean path decides on layer densities, the adversarial one follows."""
        layers = LayerCounts(counts, [weight.numel() for weight in self.two.weights.values()], [1] * len(counts))
        if path == CLEAN:
            plan = redistribute(layers, self._shares(), rate, self.budget)
            self.targets = [n - drops + grows for n, drops, grows in zip(counts, *plan, strict=True)]
            return plan
        wanted = layer_drops(layers, self._shares(), rate)
        drops = [max(n, count - target) for n, count, target in zip(wanted, counts, self.targets, strict=True)]
        return RedistributionPlan(
            drops, [t - count + n for t, count, n in zip(self.targets, counts, drops, strict=True)]
        )

    def _shares(self) -> list[float]:
        """Each layer's share of momentum, the mean of both paths'."""
        sums = [{name: total.abs() for name, total in self.two.gradients(path).items()} for path in PATHS]
        clean, adv = (momentum_shares(total, self.two.masks(path)) for total, path in zip(sums, PATHS, strict=True))
        return [(one + other) / 2 for one, other in zip(clean, adv, strict=True)]

    def _gradients(self) -> list[Tensor]:
        return [total for path in PATHS for total in self.two.gradients(path).values()]
