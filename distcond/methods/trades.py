"""TRADES: accuracy plus agreement between clean and attacked images (Zhang et al., arXiv 1901.08573).

    L = CE(f(x), y) + beta * KL(f(x) || f(x_adv)),   x_adv maximises the same KL

The attack pulls away from the clean outputs of the network in eval mode, computed once; both terms of the loss see
train-mode outputs and send gradients into both. One network per beta: there is no lam. The authors start the attack a
hair from x; here it starts where `attack.random_start` says, at a random point of the ball.
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
from distcond.methods.step_context import Outcome, StepContext, count_correct, eval_mode
from distcond.samplers.distributions import FixedOptions


@dataclass(frozen=True, kw_only=True)
class TradesOptions(Options):
    """TRADES's own settings."""

    beta: float = setting(6.0, "weight of the agreement term: larger = more robust (authors: 6)", ge=0)


def divergence(adversarial: Tensor, clean: Tensor) -> Tensor:
    """KL(softmax(clean) || softmax(adversarial)) per row (n,), float32, from logits (n, K)."""
    log_clean, log_adversarial = F.log_softmax(clean.float(), 1), F.log_softmax(adversarial.float(), 1)
    return (log_clean.exp() * (log_clean - log_adversarial)).sum(1)


def objective(passes: StepContext, x: Tensor, y: Tensor, beta: float) -> Outcome:
    """The loss of one step: attack, clean pass, adversarial pass, in the authors' order."""
    everything = passes.draws.everything()
    target = passes.once("target", lambda: _target(passes, x))
    moved = passes.adversarial(x, target, everything, loss=lambda logits, clean: divergence(logits, clean).sum())
    clean = passes.logits(x, everything, "clean")
    adversarial = passes.logits(moved, everything, "adversarial")
    loss = passes.cross_entropy(clean, y) + beta * passes.share(divergence(adversarial, clean))
    return Outcome(loss, count_correct((clean, y), (adversarial, y)))


@torch.no_grad()
def _target(passes: StepContext, x: Tensor) -> Tensor:
    """The clean outputs that the attack moves away from."""
    with eval_mode(passes.model):
        return passes.logits(x, passes.draws.everything(), "target")


def make_objective(options: TradesOptions) -> Objective:
    """The objective at the options' beta."""
    return partial(objective, beta=options.beta)


def lam_grid(config: Config) -> tuple[float, ...]:
    """lam = 1: there is one network.

    Raises:
        ConfigError: an attack that starts at the clean image, where the divergence has no slope.
    """
    if not config.attack.random_start:
        raise ConfigError(
            "attack.random_start=false: trades attacks a loss that is flat at the clean image; set it true"
        )
    return (1.0,)


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
