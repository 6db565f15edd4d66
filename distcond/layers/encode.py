"""Codes of lam for FiLM: lam itself, or one row of a matrix per trained lam (OAT, arXiv 2010.11828).

The rows are tokens: nothing between them was trained, so an unseen lam is refused unless interpolation is asked for.
They are saved with the model; drawing them anew would change what every lam means.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from distcond.errors import ConfigError
from distcond.registry import describe_unknown
from distcond.seeding import generator

TOKENS = ("onehot", "dct", "rand")
ENCODINGS = ("none", *TOKENS)
_TOLERANCE = 1e-6


class RawLam(nn.Module):
    """lam (N|1,) is its own code (N|1, 1)."""

    dim = 1

    def forward(self, lam: Tensor) -> Tensor:
        return lam[:, None]

    def check(self, lam: float | Tensor, where: str = "lam") -> None:
        """Every lam has a code."""


class Codebook(nn.Module):
    """lam (N|1,) to one row of a saved table (N|1, D) per choice.

    Args:
        kind: "onehot", "dct" or "rand".
        choices: the values of lam that have a code; row j of the matrix is the code of the j-th.
        dim: D, at least one per choice.
        interpolate: mix the rows of the two neighbouring choices for a lam between them.
        seed: of the random orthogonal matrix.

    Raises:
        ConfigError: a choice given twice, or more choices than `dim`.
    """

    choices: Tensor
    table: Tensor

    def __init__(
        self, kind: str, choices: tuple[float, ...], dim: int, interpolate: bool = False, seed: int = 0
    ) -> None:
        super().__init__()
        if len(set(choices)) != len(choices) or not choices:
            raise ConfigError(f"method.lam_choices={_listed(choices)}: needs at least one value, and each once")
        if dim < len(choices):
            raise ConfigError(f"method.dim={dim}: {len(choices)} choices of lam need at least as many dimensions")
        self.kind, self.dim, self.interpolate = kind, dim, interpolate
        self.known = tuple(sorted(choices))
        rows = code_matrix(kind, dim, seed)[: len(choices)]
        self.register_buffer("choices", torch.tensor(self.known))
        self.register_buffer("table", rows[sorted(range(len(choices)), key=choices.__getitem__)].float())

    def forward(self, lam: Tensor) -> Tensor:
        if self.interpolate and len(self.known) > 1:
            return self._between(lam)
        return self.table[(lam[:, None] - self.choices).abs().argmin(1)]

    def check(self, lam: float | Tensor, where: str = "lam") -> None:
        """Refuse a lam, or one of several (n,) on the CPU, that has no code.

        Raises:
            ConfigError: naming `where`, the value and the ones that have a code.
        """
        values, known = torch.as_tensor(lam, dtype=torch.float32).reshape(-1), torch.tensor(self.known)
        if self.interpolate:
            without = (values < known[0] - _TOLERANCE) | (values > known[-1] + _TOLERANCE)
        else:
            without = (values[:, None] - known).abs().amin(1) > _TOLERANCE
        if bool(without.any()):
            raise ConfigError(f"{where}={float(values[without][0]):g}: {self._refusal()}")

    def _between(self, lam: Tensor) -> Tensor:
        upper = torch.searchsorted(self.choices, lam).clamp(1, len(self.known) - 1)
        low, high = self.choices[upper - 1], self.choices[upper]
        share = ((lam - low) / (high - low)).clamp(0, 1)[:, None]
        return torch.lerp(self.table[upper - 1], self.table[upper], share)

    def _refusal(self) -> str:
        if self.interpolate:
            return f"codes are interpolated between {self.known[0]:g} and {self.known[-1]:g} only (method.lam_choices)"
        return (
            f"method.encoding={self.kind} has one code per method.lam_choices={_listed(self.known)}; "
            "use one of these, or train with method.interpolate=true or method.encoding=none"
        )


Encoder = RawLam | Codebook


def build_encoder(kind: str, choices: tuple[float, ...], dim: int, interpolate: bool = False, seed: int = 0) -> Encoder:
    """The encoder called "none", "onehot", "dct" or "rand"; the rest as for `Codebook`, unused by "none".

    Raises:
        ConfigError: another name, or choices that do not fit.
    """
    if kind not in ENCODINGS:
        raise ConfigError(describe_unknown("value for method.encoding", kind, ENCODINGS))
    return RawLam() if kind == "none" else Codebook(kind, choices, dim, interpolate, seed)


def code_matrix(kind: str, dim: int, seed: int = 0) -> Tensor:
    """The square matrix (dim, dim) in float64 whose rows are codes.

    "dct" is the un-normalised DCT-II of the identity, along its columns: entries up to 2, row 0 all 2.
    "rand" is orthogonal, uniform over rotations and reflections.
    """
    if kind == "onehot":
        return torch.eye(dim, dtype=torch.float64)
    if kind == "dct":
        places = torch.arange(dim, dtype=torch.float64)
        return 2 * torch.cos(math.pi / (2 * dim) * places[:, None] * (2 * places + 1))
    source = generator("codes", dim, seed)
    q, r = torch.linalg.qr(torch.randn(dim, dim, dtype=torch.float64, generator=source))
    # The signs of r's diagonal differ between LAPACK libraries; fixing them makes one seed one matrix.
    return q * r.diagonal().sign()


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)
