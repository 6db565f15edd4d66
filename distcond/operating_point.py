"""OperatingPoint: an immutable value that names one network of a conditional model.

The same value goes from the command line through evaluation and attack to the result row.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from distcond.errors import ConfigError

Blend = Literal["", "weights", "outputs", "mixednuts", "folded"]
BLENDS: tuple[Blend, ...] = ("", "weights", "outputs", "mixednuts", "folded")
#: Blends that run both networks.
OUTPUT_BLENDS: tuple[Blend, ...] = ("outputs", "mixednuts")
#: Blends that only a pair of runs supports (`python -m distcond.pair`).
PAIR_BLENDS: tuple[Blend, ...] = ("mixednuts", "folded")


class OperatingPoint(NamedTuple):
    """One point between standard and robust, with a width and a noise seed: one network.

    Without a blend it is the network that the method trains for `lam`, as in the papers. A blend is between two such
    networks, at lam 0 and at `lam`, with share `t` of the second: "weights" interpolates their folded weights and
    biases (one forward), "outputs" averages their probabilities (two forwards). In a pair of runs, "weights"
    interpolates raw weights and estimates the normalisation statistics anew, "folded" does what "weights" does
    otherwise, and "mixednuts" averages probabilities after a transformation of the robust network's logits (two
    forwards).
    """

    lam: float  # in [0, 1]; for a blend, lam of its robust end, above 0
    blend: Blend = ""
    t: float = 0.0  # share of the robust end, in [0, 1]; 0 without a blend
    width: float = 1.0  # multiplier of the width, one of the model's `width_mults`
    noise_seed: int = 0  # seed of the weight noise of the robust end; 0 for a network without noise

    def __str__(self) -> str:
        of_width = f" width {self.width:g}" if self.width != 1 else ""
        if not self.blend:
            return f"lam {self.lam:.3g}{of_width}"
        of_lam = f" of lam {self.lam:.3g}" if self.lam != 1 else ""
        return f"{self.blend} t {self.t:.3g}{of_lam}{of_width}"

    @property
    def position(self) -> float:
        """Position on the curve, in [0, 1]: `t` of a blend, otherwise lam."""
        return self.t if self.blend else self.lam

    @property
    def robust(self) -> bool:
        """Whether the network at lam > 0, and so its weight noise, is involved."""
        return self.lam > 0 and (not self.blend or self.t > 0)

    @property
    def place(self) -> OperatingPoint:
        """The same lam and blend at full width, with noise seed 0."""
        return self._replace(width=1.0, noise_seed=0)

    def at_lam(self, lam: float) -> OperatingPoint:
        """The network that the method trains for `lam`, with the same width and noise seed."""
        return self._replace(lam=lam, blend="", t=0.0)

    @property
    def forwards(self) -> int:
        """Forward passes per image."""
        return 2 if self.blend in OUTPUT_BLENDS and 0 < self.t < 1 else 1

    @property
    def slug(self) -> str:
        """Of lam and blend, for file names: "lam0.5", "weights0.25", "weights0.25-lam0.2"."""
        if not self.blend:
            return f"lam{self.lam:g}"
        return f"{self.blend}{self.t:g}" + (f"-lam{self.lam:g}" if self.lam != 1 else "")

    def checked(self) -> OperatingPoint:
        """Return the point itself if it is valid.

        Raises:
            ConfigError: a number is out of range, or there is no such blend.
        """
        if not 0 <= self.lam <= 1:
            raise ConfigError(f"lam={self.lam:g}: must be in [0, 1]")
        if self.blend not in BLENDS:
            raise ConfigError(f"blend={self.blend}: valid: {', '.join(BLENDS[1:])}")
        if not 0 <= self.t <= 1:
            raise ConfigError(f"t={self.t:g}: must be in [0, 1]")
        if self.blend and not self.lam:
            raise ConfigError("lam=0: the robust end of a blend must be above 0")
        return self


#: A plain lam is the point without a blend.
PointLike = OperatingPoint | float


def as_point(place: PointLike) -> OperatingPoint:
    """Convert a plain lam to an operating point."""
    return place if isinstance(place, OperatingPoint) else OperatingPoint(float(place))
