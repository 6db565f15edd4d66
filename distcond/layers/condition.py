"""What a forward pass is conditioned on (`Condition`), and how lam becomes a condition (`Routing`)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor


class FoldedUnit(NamedTuple):
    """One unit of a network in eval mode, with everything that does not depend on x folded into its weights.

    Either a convolution with all that follows up to the activation, or a normalisation without a convolution before it,
    as an affine map.
    """

    weight: Tensor  # (C_out, C_in / groups, k, k) of a convolution, or scale (N|1, C) of a normalisation
    bias: Tensor | None  # (C_out,), None = no bias; or shift (N|1, C)
    modulation: tuple[Tensor, Tensor] | None = None  # scale and shift (N, C_out) per row, which cannot be folded


class Condition(NamedTuple):
    """What one forward pass is conditioned on: one value per row, or one for all rows.

    `lam.shape == (1,)` with a bool `route` is the fast path: noise folds into the weight, and there is one set of
    statistics and one mask. A NamedTuple, because DDP moves named tuples between devices and ignores dataclasses.
    """

    lam: Tensor  # (N,) or (1,), in [0, 1]
    route: Tensor | bool  # (N,) bool or one bool: selects statistics and mask; True = adversarial
    width: int = 0  # index into the width multipliers, widest first; one per pass
    code: Tensor | None = None  # (N|1, D) encoded lam; the model fills it in once, FiLM reads it
    noise: Tensor | None = None  # (P,) standard normal, one value per weight of the noisy layers; None = no noise
    folded: tuple[FoldedUnit, ...] | None = None  # one per unit, in model order; None = not folded
    split: int | None = None  # rows before it are clean, the others adversarial; None = rows are not sorted

    @property
    def uniform(self) -> bool:
        """Whether one lam holds for all rows (decided by shape, never by value)."""
        return self.lam.shape[0] == 1


Scale = Literal["ranges", "linear", "constant"]


class Routing(NamedTuple):
    """Maps lam to a path and to the amplitude of the conditioning.

    Rows with `lam > threshold` take the adversarial path. With t the threshold, `scale` sets the amplitude:

    - "ranges": `lam / t` up to t and `(lam - t) / (1 - t)` above it, each over [0, 1]; lam itself at t = 0. FLOAT's
      earlier rule, with t = 0.5.
    - "linear": lam itself. FLOAT's final rule.
    - "constant": 1 on the adversarial path and 0 on the clean one: lam switches between the two trained networks. The
      code of FLOAT's authors measures robust accuracy this way.
    """

    threshold: float = 0.0
    scale: Scale = "ranges"

    def at(self, lam: float | Tensor, device: torch.device | str = "cpu") -> Condition:
        """The condition at one lam, or at one lam per row (n,) as a CPU tensor, which avoids synchronisation."""
        if isinstance(lam, Tensor):
            amplitude = self.amplitude(lam).to(device, non_blocking=True)
            route = lam > self.threshold
            return Condition(amplitude, route.to(device, non_blocking=True), split=_first_adversarial(route))
        lam = float(lam)  # comparing a numpy number gives numpy's bool, which is no bool
        # Filled on the device: a copy from the host would synchronise.
        amplitude = torch.full((1,), float(self.amplitude(torch.tensor(lam, device="cpu"))), device=device)
        return Condition(amplitude, lam > self.threshold)

    def amplitude(self, lam: Tensor) -> Tensor:
        """The strength of the conditioning at each lam, in [0, 1]."""
        if self.scale == "constant":
            return (lam > self.threshold).to(lam.dtype)
        if self.scale == "linear" or self.threshold == 0:
            return lam
        above = (lam - self.threshold) / (1 - self.threshold)
        return torch.where(lam > self.threshold, above, lam / self.threshold)


def _first_adversarial(route: Tensor) -> int | None:
    """The first adversarial row if all clean rows come before it; None otherwise, or if `route` is not on the CPU."""
    if route.device.type != "cpu" or bool((route[:-1] & ~route[1:]).any()):
        return None
    return len(route) - int(route.sum())
