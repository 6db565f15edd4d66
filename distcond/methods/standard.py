"""Standard training: clean images only. The accuracy that every trade-off starts from."""

from __future__ import annotations

from torch import Tensor

from distcond.config.schema import Config, Options
from distcond.methods.method import Method
from distcond.methods.pgd_at import layers
from distcond.methods.step_context import Outcome, StepContext, count_correct
from distcond.samplers.distributions import FixedOptions


def objective(passes: StepContext, x: Tensor, y: Tensor) -> Outcome:
    """Cross-entropy of the clean images, whatever lam is."""
    seen = passes.logits(x, passes.draws.everything(), "clean"), y
    return Outcome(passes.cross_entropy(*seen), count_correct(seen, None))


def lam_grid(config: Config) -> tuple[float, ...]:
    """lam = 0: there is one network."""
    return (0.0,)


METHOD = Method(
    name="standard",
    summary="standard training on clean images",
    paper="no adversarial training; the SA that other methods give up some of",
    options=Options(name="standard"),
    layers=layers,
    objective=lambda options: objective,
    sampler=FixedOptions(name="fixed", lam=0.0),
    lam_grid=lam_grid,
)
