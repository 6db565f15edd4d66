"""TRADES: accuracy plus agreement between clean and attacked images (Zhang et al., arXiv 1901.08573).

    L = CE(f(x), y) + beta * KL(f(x) || f(x_adv)),   x_adv maximises the same KL

The attack maximises the KL to the clean outputs in eval mode, which are computed once. Both terms of the loss use
train-mode outputs and propagate gradients into both passes. One network per beta: there is no lam. The authors start
the attack at x plus tiny noise; here it starts at a random point of the threat model (`attack.random_start`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from distcond.config.fields import setting
from distcond.config.schema import Config, Options
from distcond.errors import ConfigError
from distcond.methods.method import Method, Objective
from distcond.methods.pgd_at import layers
from distcond.methods.step_context import Outcome, RowSlice, StepContext, count_correct, eval_mode
from distcond.samplers.distributions import FixedOptions


@dataclass(frozen=True, kw_only=True)
class TradesOptions(Options):
    """Settings of TRADES."""

    beta: float = setting(6.0, "weight of the agreement term: larger = more robust (authors: 6)", ge=0)


def kl_divergence(adversarial: Tensor, clean: Tensor) -> Tensor:
    """KL(softmax(clean) || softmax(adversarial)) per row (n,), float32, from logits (n, K)."""
    log_clean, log_adversarial = F.log_softmax(clean.float(), 1), F.log_softmax(adversarial.float(), 1)
    return (log_clean.exp() * (log_clean - log_adversarial)).sum(1)


def objective(step: StepContext, x: Tensor, y: Tensor, beta: float) -> Outcome:
    """The loss of one step. Order of the passes as in the authors' code: attack, clean, adversarial."""
    rows = step.randomness.all_rows()
    x_adv = attack_divergence(step, x, rows)
    clean = step.logits(x, rows, "clean")
    adversarial = step.logits(x_adv, rows, "adversarial")
    loss = step.cross_entropy(clean, y) + beta * step.global_mean(kl_divergence(adversarial, clean))
    return Outcome(loss, count_correct((clean, y), (adversarial, y)))


def attack_divergence(step: StepContext, x: Tensor, part: RowSlice, width: int = 0) -> Tensor:
    """The images x of `part`, moved so that outputs diverge most from those of x in eval mode; like x."""
    target = step.cached(("target", width), lambda: _target_logits(step, x, part, width))
    return step.make_adversarial(x, target, part, width, loss=lambda logits, clean: kl_divergence(logits, clean).sum())


@torch.no_grad()
def _target_logits(step: StepContext, x: Tensor, part: RowSlice, width: int) -> Tensor:
    """The clean logits in eval mode, from which the attack diverges."""
    with eval_mode(step.model):
        return step.logits(x, part, "target", width)


def make_objective(options: TradesOptions) -> Objective:
    """The objective with its options bound."""
    return partial(objective, beta=options.beta)


def lam_grid(config: Config) -> tuple[float, ...]:
    """lam = 1 only: there is one network.

    Raises:
        ConfigError: as `check_random_start`.
    """
    check_random_start(config)
    return (1.0,)


def check_random_start(config: Config) -> None:
    """Check that the attack does not start where the gradient of the divergence is zero.

    Raises:
        ConfigError: it starts at the clean image.
    """
    if not config.attack.random_start:
        raise ConfigError(
            "attack.random_start=false: the loss that trades attacks has no gradient at the clean image; set it true"
        )


METHOD = Method(
    name="trades",
    summary="accuracy plus agreement between clean and attacked images (method.beta); one network",
    paper="TRADES, arXiv 1901.08573",
    options=TradesOptions(name="trades"),
    layers=layers,
    objective=make_objective,
    sampler=FixedOptions(name="fixed"),
    lam_grid=lam_grid,
)
