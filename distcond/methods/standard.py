"""Standard training on clean images: the accuracy that all trade-offs start from."""

from __future__ import annotations

from torch import Tensor

from distcond.config.schema import Config, Options
from distcond.methods.method import Method
from distcond.methods.pgd_at import layers
from distcond.methods.step_context import Outcome, StepContext, count_correct
from distcond.samplers.distributions import FixedOptions


def objective(step: StepContext, x: Tensor, y: Tensor) -> Outcome:
    """Cross-entropy of the clean images at any lam."""
    clean_pass = step.logits(x, step.randomness.all_rows(), "clean"), y
    return Outcome(step.cross_entropy(*clean_pass), count_correct(clean_pass, None))


def lam_grid(config: Config) -> tuple[float, ...]:
    """lam = 0 only: there is one network."""
    return (0.0,)


METHOD = Method(
    name="standard",
    summary="standard training on clean images",
    paper="no adversarial training; the SA that other methods trade for robustness",
    options=Options(name="standard"),
    layers=layers,
    objective=lambda options: objective,
    sampler=FixedOptions(name="fixed", lam=0.0),
    lam_grid=lam_grid,
)
