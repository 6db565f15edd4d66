"""`ConditionalModel`, which every method trains, and `AtLambda`, the plain network it is at one lam."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable

import torch
from torch import Tensor, nn

from distcond.errors import ConfigError
from distcond.layers.condition import Condition, FoldedUnit, Routing
from distcond.layers.encode import Encoder
from distcond.layers.folding import assign_indices
from distcond.layers.noise_fold import NoiseFold
from distcond.mixednuts import Mix
from distcond.seeding import generator

#: Draws of the weight noise that a model keeps: that of its noise seed, and of one block of an evaluation.
_KEPT_NOISES = 2


class ConditionalModel(nn.Module):
    """`forward(x, cond)`: x in [0, 1] (N, 3, H, W) to logits (N, K).

    Args:
        backbone: a network of this package, called `(x, cond)`.
        mean, std: channel statistics of the data set, pixels in [0, 1]. Normalisation is inside the model, so attacks
            work on pixels.
        routing: maps lam to a condition.
        encode: lam (N|1,) to codes (N|1, D), for methods with FiLM.
        width_mults: widths of slimmable layers, widest first; `Condition.width` is an index into them.

    Attributes:
        classes: class names in the order of the logits; empty if unknown.
        interpolate: for a pair of runs, (pair, t) -> the network with interpolated weights; None unless loaded.
        mix: for a pair of runs, the fitted transformation of MixedNUTS; None if not fitted.
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
        self._kept_noise: dict[tuple[int, torch.device], Tensor] = {}

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        cond = self.add_code(cond)
        logits: Tensor = self.backbone((x - self.mean) / self.std, cond)
        return logits

    def condition(self, lam: float | Tensor, *, width: int = 0, noise: Tensor | None = None) -> Condition:
        """The condition at one lam, or at one lam per row (N,) as a CPU tensor; its tensors are on this model's device.

        `width` is an index into `width_mults`; `width_index` converts a multiplier.

        Raises:
            ConfigError: a lam without a code, or an invalid width.
        """
        if not isinstance(width, int) or not 0 <= width < len(self.width_mults):
            last = len(self.width_mults) - 1
            raise ConfigError(f"width={width}: must be an index, 0 to {last}, into {self._format_widths()}")
        if self.encode is not None:
            self.encode.check(lam)
        return self.routing.at(lam, self.mean.device)._replace(width=width, noise=noise)

    @property
    def two_paths(self) -> bool:
        """Whether clean and adversarial rows use different normalisations, which blends interpolate."""
        return any(getattr(module, "two_paths", False) for module in self.backbone.modules())

    @property
    def two_networks(self) -> bool:
        """Whether the paths are the networks of two runs, which share no weights."""
        return any(getattr(module, "two_networks", False) for module in self.backbone.modules())

    def width_index(self, width_mult: float) -> int:
        """The index of a width multiplier in `width_mults`.

        Raises:
            ConfigError: the network does not have that width; or an integer that would have been an index in an earlier
                version of `AtLambda` and would silently select another width.
        """
        if isinstance(width_mult, numbers.Integral):
            self._refuse_index(int(width_mult))
        for index, mult in enumerate(self.width_mults):
            if math.isclose(width_mult, mult, rel_tol=1e-6):  # accepts float32 values from arrays and files
                return index
        raise ConfigError(f"width={width_mult:g}: valid: {self._format_widths()}")

    def _refuse_index(self, width: int) -> None:
        # In a model of one width, 1 cannot be an index: it is the multiplier.
        if 0 <= width < len(self.width_mults):
            mult = float(self.width_mults[width])
            full = ", or width=1.0 for full width" if width == 1 else ""
            raise ConfigError(f"width={width}: a multiplier, no longer an index; write width={mult}{full}")

    def draw_noise(self, *seed: object, on: str = "") -> Tensor | None:
        """Flat standard normal weight noise (P,) on this model's device; None for models without noise.

        Depends on the seed parts and on the type of the device it is drawn `on` (default: this model's device).
        """
        if not self.noise_size:
            return None
        device = torch.device(on) if on else self.mean.device
        noise = torch.randn(self.noise_size, generator=generator(*seed, device=device), device=device)
        return noise.to(self.mean.device)

    def noise_of_seed(self, noise_seed: int) -> Tensor | None:
        """The weight noise (P,) of a noise seed, the same on every device; None for models without noise.

        Drawn on the CPU and kept for the next call, since every block and operating point of an evaluation asks for it.
        """
        place = noise_seed, self.mean.device
        if place not in self._kept_noise:
            noise = self.draw_noise(noise_seed, on="cpu")
            if noise is None:
                return None
            while len(self._kept_noise) >= _KEPT_NOISES:
                self._kept_noise.pop(next(iter(self._kept_noise)))
            self._kept_noise[place] = noise
        return self._kept_noise[place]

    def fold(self, cond: Condition, dtype: torch.dtype = torch.float32) -> Condition:
        """`cond` with all that does not depend on x folded into weights of `dtype`. Eval mode and one route only."""
        cond = self.add_code(cond)
        return cond._replace(folded=tuple(unit.fold(cond, dtype) for unit in self.units), noise=None)

    def prepare_fold(self, cond: Condition, dtype: torch.dtype = torch.float32) -> Callable[[Tensor], Condition]:
        """noise (P,) -> `fold` of `cond` with that noise. All that does not depend on the noise is computed here, once.

        For networks with noise, in eval mode, while their weights do not change. One lam and one route only.
        """
        cond = self.add_code(cond)._replace(noise=None)
        fold_noise = NoiseFold(self.units, cond, dtype)
        return lambda noise: cond._replace(folded=fold_noise(noise))

    def _format_widths(self) -> str:
        return ", ".join(f"{width_mult:g}" for width_mult in self.width_mults)

    def add_code(self, cond: Condition) -> Condition:
        """`cond` with the code of its lam, for models with FiLM."""
        if self.encode is None or cond.code is not None or cond.folded is not None:
            return cond
        return cond._replace(code=self.encode(cond.lam))


class FoldedModel(nn.Module):
    """A conditional network that runs with the folded weights of one condition.

    `forward(x)` takes x in [0, 1] (N, 3, H, W) to logits (N, K). Later changes of the model's weights have no effect.
    """

    cond_lam: Tensor

    def __init__(self, model: ConditionalModel, cond: Condition) -> None:
        """`cond` must be folded. Its tensors become buffers, so that `.to(device)` moves them."""
        super().__init__()
        assert cond.folded is not None
        self.model = model
        self.route, self.width_index = cond.route, cond.width
        self.register_buffer("cond_lam", cond.lam, persistent=False)
        self.num_folded = len(cond.folded)
        for index, folded in enumerate(cond.folded):
            self.register_buffer(f"weight_{index}", folded.weight, persistent=False)
            self.register_buffer(f"bias_{index}", folded.bias, persistent=False)
        # Attack libraries restore the mode they found, which must not be a fresh module's training mode.
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

    Normalisation is inside. Everything that does not depend on x, including one draw of the weight noise, is folded
    into the weights at construction: `forward` draws no random numbers. Later changes of the model's weights have no
    effect. `distcond.models.dial.network_at` also handles blends.

    Args:
        model: a conditional model in eval mode.
        lam: operating point in [0, 1]; 0 = most accurate, 1 = most robust.
        width: width multiplier, one of the model's `width_mults`; 1.0 = full width.
        noise_seed: seed of the weight noise; ignored by models without weight noise.

    Raises:
        ValueError: lam outside [0, 1], or a model in training mode.
        ConfigError: a lam without a code, or a width that the model does not have.
    """

    def __init__(self, model: ConditionalModel, lam: float, width: float = 1.0, noise_seed: int = 0) -> None:
        super().__init__(model, fold_at_lam(model, lam, width, noise_seed))
        self.lam, self.width, self.noise_seed = lam, width, noise_seed


@torch.no_grad()
def fold_at_lam(model: ConditionalModel, lam: float, width: float = 1.0, noise_seed: int = 0) -> Condition:
    """The folded condition at one lam; arguments and errors as `AtLambda`."""
    return model.fold(condition_at_lam(model, lam, width, noise_seed), folded_dtype(model))


def folded_dtype(model: ConditionalModel) -> torch.dtype:
    """The dtype of folded weights outside training: at least float32."""
    return torch.promote_types(torch.float32, model.mean.dtype)


def condition_at_lam(model: ConditionalModel, lam: float, width: float = 1.0, noise_seed: int = 0) -> Condition:
    """The condition at one lam, not folded; arguments and errors as `AtLambda`."""
    if not 0 <= lam <= 1:
        raise ValueError(f"lam={lam}: must be in [0, 1]")
    if model.training:
        raise ValueError("AtLambda folds running statistics: call model.eval() first")
    noise = model.noise_of_seed(noise_seed) if lam > 0 else None
    return model.condition(lam, width=model.width_index(width), noise=noise)
