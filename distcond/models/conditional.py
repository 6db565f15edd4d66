"""A network with its normalisation and its conditioning inside: the thing every method trains."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable

import torch
from torch import Tensor, nn

from distcond.errors import ConfigError
from distcond.layers.condition import Condition, Routing
from distcond.layers.encode import Encoder
from distcond.layers.folding import assign_indices
from distcond.mixednuts import Mix
from distcond.seeding import generator


class ConditionalModel(nn.Module):
    """`forward(x, cond)`: x in [0, 1] (N, 3, H, W) to logits (N, K).

    Args:
        backbone: a module of this room, called `(x, cond)`.
        mean, std: the data set's channel statistics, in [0, 1] units; normalisation happens inside, so every attack
            works on pixels.
        routing: how lam becomes a condition.
        encode: lam (N|1,) to codes (N|1, D), for methods that modulate by a code.
        width_mults: the widths the layers can take, widest first; `Condition.width` is an index into them.

    Attributes:
        classes: their names in the order of the logits, of a network that a run trained on classes with names.
        interpolate: of a pair of runs, (the pair, t) to the network of weights between them; None unless loaded.
        mix: of a pair of runs, the fitted transformation of MixedNUTS; None where there is none.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        mean: tuple[float, ...] = (0.0, 0.0, 0.0),
        std: tuple[float, ...] = (1.0, 1.0, 1.0),
        routing: Routing = Routing(),  # noqa: B008  an immutable value
        encode: Encoder | None = None,
        width_mults: tuple[float, ...] = (1.0,),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.routing = routing
        self.encode = encode
        self.width_mults = width_mults
        self.classes: tuple[str, ...] = ()
        self.interpolate: Callable[[ConditionalModel, float], ConditionalModel] | None = None
        self.mix: Mix | None = None
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        self.noise_size, self.units = assign_indices(backbone)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        cond = self.encoded(cond)
        logits: Tensor = self.backbone((x - self.mean) / self.std, cond)
        return logits

    def condition(self, lam: float | Tensor, *, width: int = 0, noise: Tensor | None = None) -> Condition:
        """The condition at one lam, or at one per row (N,) on the CPU, as tensors on this model's device.

        `width` is an index into `width_mults`, as inside a `Condition`; `width_index` gives it for a multiplier.

        Raises:
            ConfigError: a lam without a code, or no such width.
        """
        if not isinstance(width, int) or not 0 <= width < len(self.width_mults):
            last = len(self.width_mults) - 1
            raise ConfigError(f"width={width}: an index here; valid: 0 to {last}, for {self._widths()}")
        if self.encode is not None:
            self.encode.check(lam)
        return self.routing.at(lam, self.mean.device)._replace(width=width, noise=noise)

    @property
    def two_paths(self) -> bool:
        """Whether clean and adversarial rows take different normalisations: what a blend lies between."""
        return any(getattr(module, "two_paths", False) for module in self.backbone.modules())

    @property
    def two_networks(self) -> bool:
        """Whether its paths are two runs' networks, which share nothing."""
        return any(getattr(module, "two_networks", False) for module in self.backbone.modules())

    def width_index(self, width_mult: float) -> int:
        """The index of a width in `width_mults`, by its multiplier.

        Raises:
            ConfigError: the network was not built with that width; or an integer, which `AtLambda` took for an index
                once and which would now be another width in silence.
        """
        if isinstance(width_mult, numbers.Integral):
            self._refuse_index(int(width_mult))
        for index, mult in enumerate(self.width_mults):
            if math.isclose(width_mult, mult, rel_tol=1e-6):  # a float32 of an array or a file is that width, too
                return index
        raise ConfigError(f"width={width_mult:g}: valid: {self._widths()}")

    def _refuse_index(self, width: int) -> None:
        # With one width, 1 was no index: it can only be the multiplier.
        if 0 <= width < len(self.width_mults):
            mult = float(self.width_mults[width])
            full = ", or width=1.0 for full width" if width == 1 else ""
            raise ConfigError(f"width={width}: a multiplier, no longer an index; write width={mult}{full}")

    def draw_noise(self, *seed: object, on: str = "") -> Tensor | None:
        """Flat standard normal weight noise (P,) on this model's device; None for models without.

        A function of the seed parts and of the kind of device it is drawn `on`, this model's own unless given.
        """
        if not self.noise_size:
            return None
        device = torch.device(on) if on else self.mean.device
        noise = torch.randn(self.noise_size, generator=generator(*seed, device=device), device=device)
        return noise.to(self.mean.device)

    def fold(self, cond: Condition, dtype: torch.dtype = torch.float32) -> Condition:
        """`cond` with all that does not depend on x folded into weights of `dtype`; eval mode, one route per pass."""
        cond = self.encoded(cond)
        return cond._replace(folded=tuple(unit.fold(cond, dtype) for unit in self.units), noise=None)

    def _widths(self) -> str:
        return ", ".join(f"{width_mult:g}" for width_mult in self.width_mults)

    def encoded(self, cond: Condition) -> Condition:
        """`cond` with the code of its lam, for models that are modulated by one."""
        if self.encode is None or cond.code is not None or cond.folded is not None:
            return cond
        return cond._replace(code=self.encode(cond.lam))
