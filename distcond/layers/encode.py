"""Encodings of lam for FiLM: lam itself, or one row of a code matrix per trained lam (OAT, arXiv 2010.11828).

A code is trained only at its own lam, so any other lam is refused unless interpolation is enabled. The codes are saved
with the model: new random codes would change the meaning of every lam.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from distcond.errors import ConfigError
from distcond.registry import describe_unknown
from distcond.seeding import generator

CODEBOOKS = ("onehot", "dct", "rand")
ENCODINGS = ("none", *CODEBOOKS)
_TOLERANCE = 1e-6


class RawLam(nn.Module):
    """Encodes lam (N|1,) as itself, (N|1, 1)."""

    dim = 1

    def forward(self, lam: Tensor) -> Tensor:
        return lam[:, None]

    def check(self, lam: float | Tensor, where: str = "lam") -> None:
        """Does nothing: every lam has a code."""


class Codebook(nn.Module):
    """Encodes lam (N|1,) as a row of a saved table, (N|1, D).

    Args:
        kind: "onehot", "dct" or "rand".
        choices: the values of lam that have a code; row j of the code matrix belongs to choice j.
        dim: D, at least the number of choices.
        interpolate: interpolate the codes of the two neighbouring choices for a lam between them.
        seed: seed of the random orthogonal matrix.

    Raises:
        ConfigError: a repeated choice, or more choices than `dim`.
    """

    choices: Tensor
    table: Tensor

    def __init__(
        self, kind: str, choices: tuple[float, ...], dim: int, interpolate: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        if len(set(choices)) != len(choices) or not choices:
            raise ConfigError(f"method.lam_choices={_format(choices)}: needs at least one value, and each once")
        if dim < len(choices):
            raise ConfigError(f"method.dim={dim}: {len(choices)} choices of lam need at least as many dimensions")
        self.kind, self.dim, self.interpolate = kind, dim, interpolate
        self.lams = tuple(sorted(choices))
        self.order = sorted(range(len(choices)), key=choices.__getitem__)  # rows of the code matrix, by ascending lam
        self.register_buffer("choices", torch.tensor(self.lams))
        self.register_buffer("table", code_matrix(kind, dim, seed)[self.order].float())

    @torch.no_grad()
    def set_matrix(self, matrix: Tensor) -> None:
        """Take the codes from another code matrix (rows, D); row j belongs to choice j.

        Raises:
            ConfigError: it has another number of columns, or fewer rows than there are choices.
        """
        rows, dim = matrix.shape
        if dim != self.dim:
            raise ConfigError(f"codes of {dim} numbers; set method.dim={dim}, not {self.dim}")
        if rows < len(self.lams):
            raise ConfigError(
                f"{rows} codes for the {len(self.lams)} values of method.lam_choices={_format(self.lams)}"
            )
        self.table.copy_(matrix[self.order])

    def forward(self, lam: Tensor) -> Tensor:
        if self.interpolate and len(self.lams) > 1:
            return self._interpolate(lam)
        return self.table[(lam[:, None] - self.choices).abs().argmin(1)]

    def check(self, lam: float | Tensor, where: str = "lam") -> None:
        """Check that one lam, or several (n,) on the CPU, have a code.

        Raises:
            ConfigError: one has not; names `where`, the value and the values with a code.
        """
        values, lams = torch.as_tensor(lam, dtype=torch.float32).reshape(-1), torch.tensor(self.lams)
        if self.interpolate:
            without = (values < lams[0] - _TOLERANCE) | (values > lams[-1] + _TOLERANCE)
        else:
            without = (values[:, None] - lams).abs().amin(1) > _TOLERANCE
        if bool(without.any()):
            raise ConfigError(f"{where}={float(values[without][0]):g}: {self._describe_choices()}")

    def _interpolate(self, lam: Tensor) -> Tensor:
        upper = torch.searchsorted(self.choices, lam).clamp(1, len(self.lams) - 1)
        low, high = self.choices[upper - 1], self.choices[upper]
        share = ((lam - low) / (high - low)).clamp(0, 1)[:, None]
        return torch.lerp(self.table[upper - 1], self.table[upper], share)

    def _describe_choices(self) -> str:
        if self.interpolate:
            return f"codes are interpolated between {self.lams[0]:g} and {self.lams[-1]:g} only (method.lam_choices)"
        return (
            f"method.encoding={self.kind} has one code per method.lam_choices={_format(self.lams)}; "
            "use one of these, or train with method.interpolate=true or method.encoding=none"
        )


Encoder = RawLam | Codebook


def build_encoder(kind: str, choices: tuple[float, ...], dim: int, interpolate: bool = False, seed: int = 0) -> Encoder:
    """The encoder named "none", "onehot", "dct" or "rand". The other arguments are those of `Codebook`.

    Raises:
        ConfigError: an unknown name, or choices that `Codebook` refuses.
    """
    if kind not in ENCODINGS:
        raise ConfigError(describe_unknown("value for method.encoding", kind, ENCODINGS))
    return RawLam() if kind == "none" else Codebook(kind, choices, dim, interpolate, seed)


def code_matrix(kind: str, dim: int, seed: int = 0) -> Tensor:
    """The code matrix (dim, dim), float64; its rows are codes.

    "dct" is the unnormalised DCT-II of the identity along its columns: entries up to 2, row 0 all 2.
    "rand" is a random orthogonal matrix (Haar measure).
    """
    if kind == "onehot":
        return torch.eye(dim, dtype=torch.float64)
    if kind == "dct":
        index = torch.arange(dim, dtype=torch.float64)
        return 2 * torch.cos(math.pi / (2 * dim) * index[:, None] * (2 * index + 1))
    rng = generator("codes", dim, seed)
    q, r = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64, generator=rng))
    # The signs of r's diagonal differ between LAPACK libraries; fixed here, so that a seed gives one matrix.
    return q * r.diagonal().sign()


def _format(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)
