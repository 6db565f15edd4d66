"""Condition of a forward pass, how lam becomes one (Routing), and a network folded at one lam (AtLambda)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from distcond.mixednuts import Mix


class FoldedUnit(NamedTuple):
    """What one unit of a network amounts to in eval mode, with all that does not depend on x computed.

    A convolution with everything that follows it up to the activation, or, where no convolution comes right before a
    normalisation, the normalisation as one affine.
    """

    weight: Tensor  # (C_out, C_in / groups, k, k) of a convolution, or scale (N|1, C) of a normalisation
    bias: Tensor | None  # (C_out,), None = nothing to add; or shift (N|1, C)
    modulation: tuple[Tensor, Tensor] | None = None  # scale and shift (N, C_out) per row, which no weight can hold


class Condition(NamedTuple):
    """What one forward pass is conditioned on: one value per row, or one for the whole pass.

    `lam.shape == (1,)` with a bool `route` is the fast path: noise folds into the weight, one set of statistics,
    one mask. A NamedTuple, because DDP moves named tuples between devices and leaves dataclasses untouched.
    """

    lam: Tensor  # (N,) or (1,), in [0, 1]
    route: Tensor | bool  # (N,) bool or one bool: which statistics and which mask; True = adversarial
    width: int = 0  # index into the width multipliers, widest first; one per pass
    code: Tensor | None = None  # (N|1, D) encoded lam; the model fills it in once, FiLM reads it
    noise: Tensor | None = None  # (P,) standard normal, one value per weight of the noisy layers; None = no noise
    folded: tuple[FoldedUnit, ...] | None = None  # one per unit, in model order; None = compute as written
    split: int | None = None  # rows before it are clean, the others adversarial; None = in any order, ask `route`

    @property
    def uniform(self) -> bool:
        """Whether one value of lam holds for the whole pass (decided by shape, never by value)."""
        return self.lam.shape[0] == 1


Scale = Literal["ranges", "linear", "constant"]


class Routing(NamedTuple):
    """How lam chooses the path and the amplitude of the conditioning.

    Rows with `lam > threshold` take the adversarial path. The amplitude at a threshold t is, by `scale`:

    - "ranges": over [0, 1] anew below and above t inside (0, 1), `lam / t` and `(lam - t) / (1 - t)`: FLOAT's earlier
      rule at t = 0.5. At t = 0 it is lam itself.
    - "linear": lam itself wherever t lies, FLOAT's final rule.
    - "constant": 1 on the adversarial path and 0 on the clean one, so that lam is a switch between the two networks
      that were trained: what FLOAT's authors' code counts robust accuracy with.
    """

    threshold: float = 0.0
    scale: Scale = "ranges"

    def at(self, lam: float | Tensor, device: torch.device | str = "cpu") -> Condition:
        """The condition at one lam, or at one per row: (n,) on the CPU, so that looking at it waits for no device."""
        if isinstance(lam, Tensor):
            amplitude = self.amplitude(lam).to(device, non_blocking=True)
            route = lam > self.threshold
            return Condition(amplitude, route.to(device, non_blocking=True), split=_split(route))
        lam = float(lam)  # numpy's numbers compare to numpy's bool, which is no bool
        # Filled on the device: a copy from the host would be one more thing for the host to wait for.
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


def _split(route: Tensor) -> int | None:
    """Where the adversarial rows begin, if all clean ones come before them; only looked for on the CPU."""
    if route.device.type != "cpu" or bool((route[:-1] & ~route[1:]).any()):
        return None
    return len(route) - int(route.sum())


class Conditional(Protocol):
    """What `AtLambda` and blends need of a network; `models.conditional.ConditionalModel` is the one there is."""

    training: bool
    noise_size: int
    mean: Tensor

    mix: Mix | None

    @property
    def interpolate(self) -> Callable[[Any, float], Conditional] | None: ...
    @property
    def two_paths(self) -> bool: ...
    @property
    def two_networks(self) -> bool: ...

    def condition(self, lam: float, *, width: int = 0, noise: Tensor | None = None) -> Condition: ...
    def width_index(self, width_mult: float) -> int: ...
    def fold(self, cond: Condition, dtype: torch.dtype = torch.float32) -> Condition: ...
    def draw_noise(self, *seed: object, on: str = "") -> Tensor | None: ...
    def __call__(self, x: Tensor, cond: Condition) -> Tensor: ...


class FoldedModel(nn.Module):
    """A conditional network with everything that does not depend on x folded into weights that it holds.

    `forward(x)` takes x in [0, 1] (N, 3, H, W) to logits (N, K). Later changes of the model's weights are not seen.
    """

    cond_lam: Tensor

    def __init__(self, model: Conditional, cond: Condition) -> None:
        """`cond` is folded; its tensors become buffers, so that `.to(device)` moves them with the model."""
        super().__init__()
        assert cond.folded is not None
        self.model = model
        self.route, self.width_index = cond.route, cond.width
        self.register_buffer("cond_lam", cond.lam, persistent=False)
        self.num_folded = len(cond.folded)
        for index, folded in enumerate(cond.folded):
            self.register_buffer(f"weight_{index}", folded.weight, persistent=False)
            self.register_buffer(f"bias_{index}", folded.bias, persistent=False)
        # Attack libraries put back the mode they found: it must not be the training mode of a fresh module.
        self.eval()

    def folded(self, index: int) -> FoldedUnit:
        """Weight and bias of one unit, in model order."""
        return FoldedUnit(getattr(self, f"weight_{index}"), getattr(self, f"bias_{index}"))

    def forward(self, x: Tensor) -> Tensor:
        folded = tuple(self.folded(index) for index in range(self.num_folded))
        cond = Condition(self.cond_lam, self.route, self.width_index, folded=folded)
        logits: Tensor = self.model(x, cond)
        return logits


class AtLambda(FoldedModel):
    """A conditional network at one lam: `forward(x)` takes x in [0, 1] (N, 3, H, W) to logits (N, K).

    Normalisation is inside. Everything that does not depend on x, one draw of the weight noise included, is folded
    into the weights here, once: no random number is drawn in `forward`. Later changes of the model's weights are not
    seen. Sweeps, attacks and exporters reach it through `distcond.models.dial.network_at`, which knows blends too.

    Args:
        model: a conditional model in eval mode.
        lam: operating point in [0, 1]; 0 = most accurate, 1 = most robust.
        width: multiplier of the width, one of the model's `width_mults`; 1.0 = full width.
        noise_seed: which draw of the weight noise to carry (models without weight noise ignore it).

    Raises:
        ValueError: lam outside [0, 1], a width that the model does not have, or a model in training mode.
    """

    def __init__(self, model: Conditional, lam: float, width: float = 1.0, noise_seed: int = 0) -> None:
        super().__init__(model, fold_at_lam(model, lam, width, noise_seed))
        self.lam, self.width, self.noise_seed = lam, width, noise_seed


@torch.no_grad()
def fold_at_lam(model: Conditional, lam: float, width: float = 1.0, noise_seed: int = 0) -> Condition:
    """The condition at one lam with everything folded; arguments and errors are those of `AtLambda`."""
    dtype = torch.promote_types(torch.float32, model.mean.dtype)
    return model.fold(condition_at_lam(model, lam, width, noise_seed), dtype)


def condition_at_lam(model: Conditional, lam: float, width: float = 1.0, noise_seed: int = 0) -> Condition:
    """The condition at one lam, not folded; arguments and errors are those of `AtLambda`."""
    if not 0 <= lam <= 1:
        raise ValueError(f"lam={lam}: must be in [0, 1]")
    if model.training:
        raise ValueError("AtLambda folds running statistics: call model.eval() first")
    # On the CPU: the network with noise seed 0 is to be one and the same wherever it is looked at and used.
    noise = model.draw_noise(noise_seed, on="cpu") if lam > 0 else None
    return model.condition(lam, width=model.width_index(width), noise=noise)
