"""Adversarial training at one fixed lam: the dedicated networks that conditional methods are compared with.

    L = (1 - lam) * CE(f(x), y) + lam * CE(f(x_adv), y)

lam = 1 is Madry et al. (2018), lam = 0 is standard training (without attack). In between it is OAT's PGD-AT baseline
(arXiv 2010.11828, section 4), which runs the adversarial forward pass before the clean one.
"""

from __future__ import annotations

from torch import Tensor

from distcond.config.schema import Config, Options
from distcond.errors import ConfigError
from distcond.layers.layer_set import LayerSet, plain_layers
from distcond.methods.method import Method
from distcond.methods.step_context import Outcome, StepContext, count_correct
from distcond.samplers.distributions import FixedOptions


def layers(options: Options, shared: bool) -> LayerSet:
    """Plain layers without conditioning."""
    return plain_layers(shared)


def objective(step: StepContext, x: Tensor, y: Tensor) -> Outcome:
    """The hybrid loss at one lam for all rows. Passes with weight 0 are skipped."""
    rows = step.randomness.all_rows()
    lam = float(rows.lam)
    loss, clean_pass, adv_pass = x.new_zeros(()), None, None
    if lam > 0:
        x_adv = step.make_adversarial(x, y, rows)
        adv_pass = step.logits(x_adv, rows, "adversarial"), y
        loss = loss + lam * step.cross_entropy(*adv_pass)
    if lam < 1:
        clean_pass = step.logits(x, rows, "clean"), y
        loss = loss + (1 - lam) * step.cross_entropy(*clean_pass)
    return Outcome(loss, count_correct(clean_pass, adv_pass))


def lam_grid(config: Config) -> tuple[float, ...]:
    """The lam of training.

    Raises:
        ConfigError: the sampler draws more than one lam.
    """
    if not isinstance(config.sampler, FixedOptions):
        raise ConfigError(
            f"sampler={config.sampler.name}: method {config.method.name} trains at one lam; use sampler=fixed"
        )
    return (config.sampler.lam,)


METHOD = Method(
    name="pgd_at",
    summary="adversarial training at one fixed lam (sampler.lam; 1 = Madry et al., 0 = standard training)",
    paper="Madry et al. 2018; the baseline of OAT, arXiv 2010.11828 section 4",
    options=Options(name="pgd_at"),
    layers=layers,
    objective=lambda options: objective,
    sampler=FixedOptions(name="fixed"),
    lam_grid=lam_grid,
)
