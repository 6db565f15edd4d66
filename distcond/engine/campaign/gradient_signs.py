"""How far reduced precision would mislead an attack: whether bf16 and float32 agree on the sign of input gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from distcond.attacks.attack import Logits
from distcond.attacks.pgd import input_gradient, summed_cross_entropy
from distcond.data.loader import to_float
from distcond.data.prepare import open_source, prepare_data
from distcond.data.splits import budget_rows
from distcond.engine.campaign.network import network_of
from distcond.engine.campaign.plan import Plan
from distcond.models.dial import network_at
from distcond.operating_point import OperatingPoint
from distcond.runs.build import full_float32

#: Images that the probe looks at: enough pixels for a share, few enough to take seconds.
EXAMPLES = 64


def gradient_signs(plan: Plan, device: torch.device) -> dict[OperatingPoint, float]:
    """For each point, the share of pixels in [0, 1] whose gradient has one sign in bf16 (autocast) and in float32.

    Measured at full width on some images of every class. Pixels without gradient in float32 are left out; 1 where
    no pixel is left.
    """
    model = network_of(plan, device).requires_grad_(False)
    source = open_source(prepare_data(plan.config.data), plan.campaign.split, device, plan.config.data.threads)
    ((raw, y),) = source.read([budget_rows(source, EXAMPLES)])
    x, seed = to_float(raw), plan.config.eval.noise_seed
    with full_float32():
        return {point: agreement(network_at(model, point, noise_seed=seed), x, y) for point in plan.points}


def agreement(logits: Logits, x: Tensor, y: Tensor) -> float:
    """Share of pixels of x (N, C, H, W) whose loss gradient has the same sign under bf16 autocast."""

    def loss(moved: Tensor) -> Tensor:
        return summed_cross_entropy(logits(moved), y)

    exact = input_gradient(loss, x)
    with torch.autocast(x.device.type, torch.bfloat16):
        rough = input_gradient(loss, x)
    there = exact != 0
    if not there.any():
        return 1.0
    return float((exact.sign() == rough.sign())[there].float().mean())
