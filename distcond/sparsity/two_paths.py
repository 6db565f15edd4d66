"""Two masks over one weight, a clean and an adversarial path, that learn in turn where to be dense."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from distcond.errors import ConfigError
from distcond.layers.masked import MaskedConv2d
from distcond.sparsity.agreement import average_over_ranks, require_agreement
from distcond.sparsity.distribution import budget, uniform
from distcond.sparsity.masks import Masks, at, density, fitted, kept, num_entries, random_order
from distcond.sparsity.redistribute import Layers, drops_of, redistribute, shares_of
from distcond.sparsity.score import magnitude, momentum_buffers
from distcond.sparsity.update import drop, grow

CLEAN, ADV = False, True


class TwoPaths:
    """Sparse momentum for each path, with that path's own dense gradients.

    Epochs are counted from 0. After an even one the clean masks are updated, with layer densities that follow the mean
    of both paths' shares of momentum; after an odd one the adversarial masks are, and take over the same layer
    densities. As everywhere, the update happens after the first step of the next epoch. Weights outside both masks are
    held at zero, with their momentum.

    Args:
        layers: the masked convolutions by weight name.
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
        layers: Mapping[str, MaskedConv2d],
        density: float,
        overlap: float | None,
        momentum: float,
        drop_fraction: Callable[[float], float],
        seed: int = 0,
    ) -> None:
        least = max(0.0, 2 - 1 / density)
        if overlap is not None and overlap < least:
            raise ConfigError(f"method.overlap={overlap:g}: two masks of density {density:g} share at least {least:.3g}")
        self.layers, self.overlap, self.momentum = layers, overlap, momentum
        self.drop_fraction, self.seed = drop_fraction, seed
        self.weights: dict[str, Tensor] = {name: layer.weight for name, layer in layers.items()}
        self.budget = budget(num_entries(self.weights), density)
        self.due: int | None = None  # the epoch whose update has not happened yet
        self.targets: list[int] = []  # kept weights per layer that the adversarial path takes over
        self._union: list[Tensor] = []
        for layer in layers.values():
            layer.dense_gradients = {path: torch.zeros_like(layer.weight.detach()) for path in (CLEAN, ADV)}

    def start(self, stage: str) -> None:
        """Uniform densities, random places, the overlap that was asked for in every layer."""
        counts = uniform({name: weight.shape for name, weight in self.weights.items()}, self.budget)
        pairs = {name: self._pair(name, weight, counts[name]) for name, weight in self.weights.items()}
        self._put(CLEAN, {name: pair[0] for name, pair in pairs.items()})
        self._put(ADV, {name: pair[1] for name, pair in pairs.items()})
        self._hold()

    @torch.no_grad()
    def after_step(self, optimiser: torch.optim.Optimizer, done: float, step: int) -> None:
        """Hold the masks; update one path where an epoch has just begun; let the gradients seen so far fade."""
        self._hold(optimiser)
        if self.due is not None:
            average_over_ranks(self._momenta())
            self._update(self.due % 2 == 1, self.drop_fraction(done))
            self._hold(optimiser)
            self.due = None
        torch._foreach_mul_(self._momenta(), self.momentum)

    def after_epoch(self, record: Mapping[str, Any], optimiser: torch.optim.Optimizer) -> bool:
        """Note that an update is due. The gradients are averaged now, so that every rank saves and resumes the same."""
        average_over_ranks(self._momenta())
        self.due = record["epoch"] - 1
        return False

    def report(self) -> dict[str, float]:
        """Densities of the paths and of what either keeps; the share of the clean path's weights that both have."""
        clean, adv = self.masks(CLEAN), self.masks(ADV)
        both = {name: clean[name] & adv[name] for name in clean}
        either = {name: clean[name] | adv[name] for name in clean}
        found = {"density": density(clean), "density_adv": density(adv), "density_union": density(either)}
        return found | {"overlap": density(both) / found["density"]}

    def masks(self, path: bool) -> Masks:
        """The masks of one path by weight name."""
        return {name: layer.mask(path) for name, layer in self.layers.items()}

    def state_dict(self) -> dict[str, Any]:
        """Masks, dense gradients and what is due."""
        return {
            "masks": {str(path): self.masks(path) for path in (CLEAN, ADV)},
            "momenta": {str(path): self._momenta_of(path) for path in (CLEAN, ADV)},
            "due": self.due,
            "targets": self.targets,
        }

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`."""
        for path in (CLEAN, ADV):
            self._set(path, fitted(state["masks"][str(path)], self.weights))
            for name, total in self._momenta_of(path).items():
                total.copy_(state["momenta"][str(path)][name])
        self.due, self.targets = state["due"], list(state["targets"])

    def _pair(self, name: str, weight: Tensor, count: int) -> tuple[Tensor, Tensor]:
        order = random_order(weight, self.seed, "masks", name)
        if self.overlap is None:
            other = random_order(weight, self.seed, "adversarial masks", name)
            return at(weight, order[:count]), at(weight, other[:count])
        shared = max(int(self.overlap * count + 0.5), 2 * count - weight.numel())
        return at(weight, order[:count]), at(weight, order[count - shared : 2 * count - shared])

    def _update(self, path: bool, rate: float) -> None:
        masks, momenta = self.masks(path), {name: total.abs() for name, total in self._momenta_of(path).items()}
        sizes, counts = magnitude(self.weights), list(kept(masks).values())
        layers = Layers(counts, [weight.numel() for weight in self.weights.values()], [1] * len(counts))
        shares = self._shares()
        if path == CLEAN:
            drops, grows = redistribute(layers, shares, rate, self.budget)
            self.targets = [n - dropped + grown for n, dropped, grown in zip(counts, drops, grows, strict=True)]
        else:
            rates = zip(drops_of(layers, shares, rate), counts, self.targets, strict=True)
            drops = [max(dropped, n - target) for dropped, n, target in rates]
            grows = [target - n + dropped for target, n, dropped in zip(self.targets, counts, drops, strict=True)]
        places = zip(masks.items(), drops, grows, strict=True)
        self._put(path, {n: grow(drop(mask, sizes[n], dropped), momenta[n], grown) for (n, mask), dropped, grown in places})

    def _shares(self) -> list[float]:
        """Each layer's share of momentum, the mean of both paths'."""
        by_path = []
        for path in (CLEAN, ADV):
            momenta = {name: total.abs() for name, total in self._momenta_of(path).items()}
            by_path.append(shares_of(momenta, self.masks(path)))
        return [(clean + adv) / 2 for clean, adv in zip(*by_path, strict=True)]

    def _put(self, path: bool, masks: Masks) -> None:
        require_agreement(masks)
        self._set(path, masks)

    @torch.no_grad()
    def _set(self, path: bool, masks: Masks) -> None:
        for name, mask in masks.items():
            self.layers[name].mask(path).copy_(mask)
        unions = [layer.clean_mask | layer.adv_mask for layer in self.layers.values()]
        self._union = [union.to(w.dtype) for union, w in zip(unions, self.weights.values(), strict=True)]

    @torch.no_grad()
    def _hold(self, optimiser: torch.optim.Optimizer | None = None) -> None:
        """Zero weights and momentum that neither path keeps: nothing but decay would act on them."""
        torch._foreach_mul_(list(self.weights.values()), self._union)
        buffers = list(momentum_buffers(self.weights, optimiser).values()) if optimiser is not None else []
        if buffers:
            torch._foreach_mul_(buffers, self._union)

    def _momenta(self) -> list[Tensor]:
        return [layer.dense_gradients[path] for path in (CLEAN, ADV) for layer in self.layers.values()]

    def _momenta_of(self, path: bool) -> dict[str, Tensor]:
        return {name: layer.dense_gradients[path] for name, layer in self.layers.items()}
