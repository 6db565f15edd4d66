"""Adversarial training at one fixed lam: the dedicated networks that once-for-all methods compare with.

    L = (1 - lam) * CE(f(x), y) + lam * CE(f(x_adv), y)

lam = 1 is Madry et al. (2018), lam = 0 standard training (no attack is run), between them OAT's PGD-AT baseline
(arXiv 2010.11828, section 4), whose adversarial forward comes before the clean one.
"""

from __future__ import annotations

from torch import Tensor

from distcond.config.schema import Config, Options
from distcond.errors import ConfigError
from distcond.layers.layer_set import LayerSet, plain
from distcond.methods.method import Method
from distcond.methods.step_context import Outcome, StepContext, count_correct
from distcond.samplers.distributions import FixedOptions


def layers(options: Options, shared: bool) -> LayerSet:
    """Plain layers: nothing is conditioned."""
    return plain(shared)


def objective(passes: StepContext, x: Tensor, y: Tensor) -> Outcome:
    """The hybrid loss at one lam for the whole batch; a pass of weight 0 is not run."""
    everything = passes.draws.everything()
    lam = float(everything.lam)
    loss, seen_clean, seen_adv = x.new_zeros(()), None, None
    if lam > 0:
        moved = passes.adversarial(x, y, everything)
        seen_adv = passes.logits(moved, everything, "adversarial"), y
        loss = loss + lam * passes.cross_entropy(*seen_adv)
    if lam < 1:
        seen_clean = passes.logits(x, everything, "clean"), y
        loss = loss + (1 - lam) * passes.cross_entropy(*seen_clean)
    return Outcome(loss, count_correct(seen_clean, seen_adv))


def lam_grid(config: Config) -> tuple[float, ...]:
    """The one lam it was trained at."""
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
