"""Dual batch normalisation: clean and adversarial rows have their own statistics and affine parameters.

Xie et al. 2020 (AdvProp); OAT (arXiv 2010.11828) section 3.2: one normalisation for both distributions costs accuracy.
The papers slice the batch at an index. Masked statistics give the same numbers, work for any row order and keep every
parameter in the graph on a rank that has rows of one kind only, but read the batch more often. So sorted rows are
sliced and use torch's kernels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from distcond.layers.batch_norm_statistics import masked_moments, normalise_shared, update_running_statistics
from distcond.layers.condition import Condition
from distcond.layers.plain import eval_affine


class DualBatchNorm2d(nn.Module):
    """Batch normalisation routed by `cond.route`: True = adversarial.

    `shared` = batch statistics over all ranks of the process group instead of this rank's rows.
    """

    #: Marks networks whose paths can be blended (`ConditionalModel.two_paths`).
    two_paths = True

    def __init__(self, channels: int, shared: bool = False) -> None:
        super().__init__()
        self.clean = nn.BatchNorm2d(channels)
        self.adv = nn.BatchNorm2d(channels)
        self.shared = shared

    def forward(self, x: Tensor, cond: Condition) -> Tensor:
        if isinstance(cond.route, Tensor):
            split = self._slice_index(x, cond)
            return self._normalise_masked(x, cond.route) if split is None else self._normalise_slices(x, split)
        norm = self.adv if cond.route else self.clean
        if self.training and x.shape[0] < 2 and not self.shared:
            return self._normalise_masked(x, torch.full((x.shape[0],), cond.route, device=x.device))
        if self.training and self.shared:
            return normalise_shared(norm, x)
        out: Tensor = norm(x)
        return out

    def as_affine(self, cond: Condition) -> tuple[Tensor, Tensor]:
        """Scale and shift (C,) of the routed branch in eval mode; the route must be one bool."""
        assert isinstance(cond.route, bool), "folding needs one route per pass"
        return eval_affine(self.routed(cond))

    def routed(self, cond: Condition) -> nn.BatchNorm2d:
        """The branch of the condition's route, which must be one bool."""
        return self.adv if cond.route else self.clean

    def _slice_index(self, x: Tensor, cond: Condition) -> int | None:
        """Where to slice sorted rows in training; None to use masks.

        Slices need two rows of each kind: with fewer, running statistics must not change and parameters must stay in
        the graph, which `_normalise_masked` ensures.
        """
        if not self.training or self.shared or cond.split is None:
            return None
        return cond.split if 2 <= cond.split <= x.shape[0] - 2 else None

    def _normalise_slices(self, x: Tensor, split: int) -> Tensor:
        clean, adv = x.split([split, x.shape[0] - split])
        return torch.cat([self.clean(clean), self.adv(adv)])

    def _normalise_masked(self, x: Tensor, route: Tensor) -> Tensor:
        x32 = x.float()
        clean = self._branch_affine(self.clean, x32, (~route).to(x32.dtype))
        adv = self._branch_affine(self.adv, x32, route.to(x32.dtype))
        scale, shift = (torch.where(route[:, None], a, c)[:, :, None, None] for a, c in zip(adv, clean, strict=True))
        return (x32 * scale + shift).to(x.dtype)

    def _branch_affine(self, norm: nn.BatchNorm2d, x: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift (C,) of one branch: from its rows in training, else from its running statistics."""
        if not self.training:
            return eval_affine(norm)
        batch = masked_moments(x, keep, self.shared)
        update_running_statistics(norm, batch)
        scale = norm.weight * torch.rsqrt(batch.var + norm.eps)
        return scale, norm.bias - batch.mean * scale
