"""Which of the networks that a conditional model holds is meant, as one immutable value.

From the command line, through evaluation and attack, to the row of a result: all that names a network names it so.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from distcond.errors import ConfigError

Blend = Literal["", "weights", "outputs", "mixednuts", "folded"]
BLENDS: tuple[Blend, ...] = ("", "weights", "outputs", "mixednuts", "folded")
#: Those that both ends answer.
OUTPUT_BLENDS: tuple[Blend, ...] = ("outputs", "mixednuts")
#: Those that only a pair of runs has (`python -m distcond.pair`).
PAIR_BLENDS: tuple[Blend, ...] = ("mixednuts", "folded")


class OperatingPoint(NamedTuple):
    """One place between standard and robust, a width and a draw of the weight noise: one network.

    Without a blend the network is the one the method trains for `lam`: the papers' knob. A blend lies between two such
    networks, the one at lam 0 and the one at `lam`, a share `t` of the way: "weights" interpolates their folded weights
    and biases (one forward), "outputs" averages their probabilities (two forwards). Where the ends are two runs,
    "weights" interpolates raw weights and estimates the normalisation's statistics anew, "folded" does as "weights"
    does otherwise, and "mixednuts" averages probabilities of which the robust end's are transformed first (two
    forwards).
    """

    lam: float  # in [0, 1]; of a blend that of its robust end, above 0
    blend: Blend = ""
    t: float = 0.0  # share of the robust end, in [0, 1]; 0 without a blend
    width: float = 1.0  # multiplier of the width, one of the model's `width_mults`
    noise_seed: int = 0  # which draw of the weight noise the robust end carries; of a network without noise 0

    def __str__(self) -> str:
        of_width = f" width {self.width:g}" if self.width != 1 else ""
        if not self.blend:
            return f"lam {self.lam:.3g}{of_width}"
        of_lam = f" of lam {self.lam:.3g}" if self.lam != 1 else ""
        return f"{self.blend} t {self.t:.3g}{of_lam}{of_width}"

    @property
    def position(self) -> float:
        """Where it lies along its curve, in [0, 1]: `t` of a blend, otherwise lam."""
        return self.t if self.blend else self.lam

    @property
    def robust(self) -> bool:
        """Whether the network at lam above 0, and with it its weight noise, takes part."""
        return self.lam > 0 and (not self.blend or self.t > 0)

    @property
    def place(self) -> OperatingPoint:
        """The same place at full width and the first draw of the noise."""
        return self._replace(width=1.0, noise_seed=0)

    def at_lam(self, lam: float) -> OperatingPoint:
        """The network that the method trains for `lam`, at the same width and draw of the noise."""
        return self._replace(lam=lam, blend="", t=0.0)

    @property
    def forwards(self) -> int:
        """How many networks answer for one image."""
        return 2 if self.blend in OUTPUT_BLENDS and 0 < self.t < 1 else 1

    @property
    def slug(self) -> str:
        """Of the place, for names of files: "lam0.5", "weights0.25", "weights0.25-lam0.2"."""
        if not self.blend:
            return f"lam{self.lam:g}"
        return f"{self.blend}{self.t:g}" + (f"-lam{self.lam:g}" if self.lam != 1 else "")

    def checked(self) -> OperatingPoint:
        """The point itself.

        Raises:
            ConfigError: a number outside its range, or no such blend.
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


#: A lam by itself is the point without a blend.
PointLike = OperatingPoint | float


def as_point(place: PointLike) -> OperatingPoint:
    """The operating point, also of a plain lam."""
    return place if isinstance(place, OperatingPoint) else OperatingPoint(float(place))
