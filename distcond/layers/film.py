"""FiLM, feature-wise linear modulation by a code of lam: the conditioning of OAT (arXiv 2010.11828).

    scale, shift = mlp(code(lam)),   out = scale * norm(x) + shift   per channel

FiLM follows every normalisation of the main path, but not those of shortcuts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.layers.condition import Condition


class FiLM(nn.Module):
    """`scale * x + shift` with a scale and a shift per channel that depend on the code; x is (N, C, H, W).

    As in the authors' code, both pass through a leaky ReLU of slope 0.01 and have nn.Linear's initial weights. They
    start small, which the next normalisation undoes.

    Args:
        channels: C.
        code_dim: D, length of a code.
        identity_start: use `(1 + scale) * x + shift` without the leaky ReLU, both 0 at the start.
    """

    def __init__(self, channels: int, code_dim: int = 1, identity_start: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.identity_start = identity_start
        self.hidden = nn.Linear(code_dim, 2 * channels)
        self.out = nn.Linear(2 * channels, 2 * channels)
        if identity_start:
            nn.init.zeros_(self.out.weight)
            nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        return apply_modulation(x, *self.coefficients(cond))

    def as_affine(self, cond: Condition) -> tuple[Tensor, Tensor]:
        """Scale and shift: (C,) each for a uniform condition, (N, C) for one code per row."""
        scale, shift = self.coefficients(cond)
        return (scale[0], shift[0]) if cond.uniform else (scale, shift)

    def coefficients(self, cond: Condition) -> tuple[Tensor, Tensor]:
        """Scale and shift, (N|1, C) each."""
        assert cond.code is not None, "the model encodes lam before its layers run"
        scale, shift = self.run_mlp(cond.code.to(self.hidden.weight.dtype), cond.width)
        return (1 + scale, shift) if self.identity_start else (F.leaky_relu(scale), F.leaky_relu(shift))

    def run_mlp(self, code: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """The MLP's outputs for scale and shift, (N|1, C) each."""
        scale, shift = self.out(F.leaky_relu(self.hidden(code))).chunk(2, dim=1)
        return scale, shift


def compose_affines(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Scale and shift of `first` followed by `second`, each (C,) or (N, C)."""
    return first[0] * second[0], first[1] * second[0] + second[1]


def apply_modulation(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """`x * scale + shift` in the dtype of x (N, C, H, W), for scale and shift (N|1, C)."""
    scale, shift = (values.to(x.dtype)[:, :, None, None] for values in (scale, shift))
    return torch.addcmul(shift, x, scale)
