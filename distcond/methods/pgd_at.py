"""Adversarial training at one fixed lam: the dedicated networks that conditional methods are compared with.

    L = (1 - lam) * CE(f(x), y) + lam * CE(f(x_adv), y)

lam = 1 is Madry et al. (2018), lam = 0 is standard training (without attack). In between it is OAT's PGD-AT baseline
(arXiv 2010.11828, section 4), which runs the adversarial forward pass before the clean one. At several widths it is the
baseline of OATS, trained as in slimmable networks (Yu et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from distcond.config.fields import setting
from distcond.config.schema import Config, Options
from distcond.errors import ConfigError
from distcond.layers.layer_set import LayerSet, SlimmableWidths, plain_layers, slimmable_layers
from distcond.methods.method import Method, Objective, check_width_mults, sum_over_widths
from distcond.methods.step_context import Outcome, StepContext, count_correct
from distcond.samplers.distributions import FixedOptions


@dataclass(frozen=True, kw_only=True)
class PgdAtOptions(Options):
    """Settings of adversarial training."""

    width_mults: tuple[float, ...] = setting(
        (1.0,), "share of the channels at each width; 1,0.75,0.5 = the slimmable baseline of OATS", gt=0, le=1
    )


def width_mults(options: Options) -> tuple[float, ...]:
    """The widths, widest first; full width for options of a method derived from this one that have none.

    Raises:
        ConfigError: they do not start with 1 or do not descend.
    """
    return check_width_mults(getattr(options, "width_mults", (1.0,)))


def layers(options: Options, shared: bool) -> LayerSet:
    """Plain layers without conditioning."""
    return plain_layers(shared)


def layers_at_widths(options: Options, shared: bool) -> LayerSet:
    """Plain layers, or for several widths slimmable ones with a batch normalisation per width."""
    widths = width_mults(options)
    return (
        layers(options, shared) if len(widths) == 1 else slimmable_layers(SlimmableWidths(widths), shared, dual=False)
    )


def objective(step: StepContext, x: Tensor, y: Tensor, width: int = 0) -> Outcome:
    """The hybrid loss at one lam for all rows. Passes with weight 0 are skipped."""
    rows = step.randomness.all_rows()
    lam = float(rows.lam)
    loss, clean_pass, adv_pass = x.new_zeros(()), None, None
    if lam > 0:
        x_adv = step.make_adversarial(x, y, rows, width)
        adv_pass = step.logits(x_adv, rows, "adversarial", width), y
        loss = loss + lam * step.cross_entropy(*adv_pass)
    if lam < 1:
        clean_pass = step.logits(x, rows, "clean", width), y
        loss = loss + (1 - lam) * step.cross_entropy(*clean_pass)
    return Outcome(loss, count_correct(clean_pass, adv_pass))


def make_objective(options: Options) -> Objective:
    """The loss, summed over the widths."""
    num_widths = len(width_mults(options))
    return objective if num_widths == 1 else sum_over_widths(objective, num_widths)


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
    options=PgdAtOptions(name="pgd_at"),
    layers=layers_at_widths,
    objective=make_objective,
    widths=width_mults,
    sampler=FixedOptions(name="fixed"),
    lam_grid=lam_grid,
)
