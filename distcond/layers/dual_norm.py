"""Dual batch normalisation: clean and adversarial rows keep their own statistics and affine parameters.

Xie et al. 2020 (AdvProp); OAT (arXiv 2010.11828) section 3.2: mixing the two distributions in one normalisation costs
accuracy. The papers slice the batch at an index; masked statistics are the same numbers, need no row order and keep
every parameter in the graph when a rank has rows of one kind only. They read the batch many times more often, so rows
that do lie in order are sliced, each slice with torch's own kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distcond.layers.batch_norm_statistics import moments, normalise_shared, update_running_statistics
from distcond.layers.condition import Condition
from distcond.layers.plain import frozen_affine


class DualBatchNorm2d(nn.Module):
    """Batch normalisation routed by `cond.route`: True = adversarial.

    `shared` = batch statistics over all ranks of the process group instead of this rank's rows.
    """

    #: Looked for by those who blend paths.
    two_paths = True

    def __init__(self, channels: int, shared: bool = False) -> None:
        super().__init__()
        self.clean = nn.BatchNorm2d(channels)
        self.adv = nn.BatchNorm2d(channels)
        self.shared = shared

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        if isinstance(cond.route, Tensor):
            split = self._split(x, cond)
            return self._by_row(x, cond.route) if split is None else self._sliced(x, split)
        norm = self.adv if cond.route else self.clean
        if self.training and x.shape[0] < 2 and not self.shared:
            return self._by_row(x, torch.full((x.shape[0],), cond.route, device=x.device))
        if self.training and self.shared:
            return normalise_shared(norm, x)
        out: Tensor = norm(x)
        return out

    def as_affine(self, cond: Condition) -> tuple[Tensor, Tensor]:
        """Scale and shift (C,) of the routed branch in eval mode; the route must be one bool."""
        assert isinstance(cond.route, bool), "one route per pass folds; rows of both kinds do not"
        return frozen_affine(self.routed(cond))

    def routed(self, cond: Condition) -> nn.BatchNorm2d:
        """The branch of the condition's route, which must be one bool."""
        return self.adv if cond.route else self.clean

    def _split(self, x: Tensor, cond: Condition) -> int | None:
        """Where to slice, if at all: in training, by statistics of this rank, with at least two rows of each kind.

        Fewer must leave the running statistics alone and their parameters in the graph: `_by_row` sees to that.
        """
        if not self.training or self.shared or cond.split is None:
            return None
        return cond.split if 2 <= cond.split <= x.shape[0] - 2 else None

    def _sliced(self, x: Tensor, split: int) -> Tensor:
        """What `_by_row` gives for rows in order."""
        clean, adv = x.split([split, x.shape[0] - split])
        return torch.cat([self.clean(clean), self.adv(adv)])

    def _by_row(self, x: Tensor, route: Tensor) -> Tensor:
        x32 = x.float()
        clean = self._branch(self.clean, x32, (~route).to(x32.dtype))
        adv = self._branch(self.adv, x32, route.to(x32.dtype))
        scale, shift = (torch.where(route[:, None], a, c)[:, :, None, None] for a, c in zip(adv, clean, strict=True))
        return (x32 * scale + shift).to(x.dtype)

    def _branch(self, norm: nn.BatchNorm2d, x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift (C,) of one branch, from its rows in training and its running statistics otherwise."""
        if not self.training:
            return frozen_affine(norm)
        found = moments(x, keep, self.shared)
        update_running_statistics(norm, found)
        scale = norm.weight * torch.rsqrt(found.var + norm.eps)
        return scale, norm.bias - found.mean * scale
