"""Robust Bird: find a sparse ticket early in standard training, then train it adversarially (Chen et al., Sparsity
Winning Twice, arXiv 2202.09844, ICLR 2022, section 3.2).

Stage "search": standard training of the dense network (`method.search`: or adversarial) until its global magnitude
masks stop changing. Stage "train": adversarial training under that mask with a new optimiser, from the weights of the
search. As in the authors' code, the search masks convolutions and the ticket includes the classifier. Length and
schedule of the search are an interpretation: at most 60 epochs, a learning-rate drop after 50.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from distcond.config.fields import setting
from distcond.config.schema import Config, Options
from distcond.errors import ConfigError
from distcond.methods import pgd_at, standard
from distcond.methods.method import Method, Objective, Stage
from distcond.methods.step_context import Outcome, StepContext
from distcond.models.conditional import ConditionalModel
from distcond.samplers.distributions import FixedOptions
from distcond.sparsity.early_ticket import EarlyTicket
from distcond.sparsity.masked_weights import MaskedWeights
from distcond.sparsity.masks import layers_by_weight


@dataclass(frozen=True, kw_only=True)
class RobustBirdOptions(Options):
    """Settings of Robust Bird."""

    density: float = setting(0.2, "kept share of convolutions and classifier, by global magnitude", gt=0, le=1)
    search_epochs: int = setting(60, "maximum epochs of the search; `epochs` counts the training after it", ge=1)
    search: Literal["standard", "pgd", "fast"] = setting(
        "standard", "training of the search: standard, adversarial (pgd), or with one step of 1.25 epsilon (fast)"
    )
    search_milestones: tuple[float, ...] = setting(
        (5 / 6,), "learning-rate drops of the search, as shares of search_epochs", ge=0, le=1
    )
    queue_length: int = setting(5, "number of consecutive epochs whose masks must agree", ge=2)
    tolerance: float = setting(0.08, "largest share of entries in which agreeing masks differ", ge=0, le=1)


def fast_objective(step: StepContext, x: Tensor, y: Tensor) -> Outcome:
    """Adversarial training with one step from a random start (Wong et al. 2020), as in the authors' code."""
    step.attack = replace(step.attack, num_steps=1, step_size=_FAST_STEP * step.attack.epsilon, random_start=True)
    return pgd_at.objective(step, x, y)


#: Step of the fast search, in epsilon.
_FAST_STEP = 1.25
_SEARCHES: dict[str, Objective] = {
    "standard": standard.objective, "pgd": pgd_at.objective, "fast": fast_objective
}  # fmt: skip


def stages(config: Config) -> tuple[Stage, ...]:
    """The stages "search" and "train"."""
    options = config.method
    assert isinstance(options, RobustBirdOptions)
    optim = replace(config.optim, schedule="multistep", milestones=options.search_milestones, warmup=0.0)
    return (
        Stage("search", options.search_epochs, _SEARCHES[options.search], optim),
        Stage("train", config.epochs, pgd_at.objective, config.optim),
    )


def sparsity(config: Config, model: ConditionalModel) -> EarlyTicket:
    """The masks of the search and of the ticket.

    Raises:
        ConfigError: density 1, or a network without convolutions.
    """
    options = config.method
    assert isinstance(options, RobustBirdOptions)
    if options.density == 1:
        raise ConfigError("method.density=1: robust_bird has no ticket to find; set it below 1, or method=pgd_at")
    searched = {name: layer.weight for name, layer in layers_by_weight(model).items()}
    masked = MaskedWeights(layers_by_weight(model, (nn.Conv2d, nn.Linear)))
    return EarlyTicket(searched, masked, options.density, "search", options.queue_length, options.tolerance)


METHOD = Method(
    name="robust_bird",
    summary="a sparse ticket found early in standard training, then trained adversarially",
    paper="Robust Bird, arXiv 2202.09844 section 3.2; length and schedule of the search are an interpretation",
    options=RobustBirdOptions(name="robust_bird"),
    layers=pgd_at.layers,
    objective=lambda options: pgd_at.objective,
    sampler=FixedOptions(name="fixed"),
    lam_grid=pgd_at.lam_grid,
    sparsity=sparsity,
    stages=stages,
)
