"""Losses per example that attacks maximise, in float32."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy (N,) of logits (N, K) and labels (N,)."""
    return F.cross_entropy(logits.float(), y, reduction="none")


def margin(logits: Tensor, y: Tensor) -> Tensor:
    """Best wrong logit minus the right one (N,): above 0 the prediction is wrong (Carlini and Wagner 2017, f6)."""
    right = logits.gather(1, y[:, None]).squeeze(1)
    others = logits.scatter(1, y[:, None], -float("inf")).amax(1)
    return (others - right).float()
