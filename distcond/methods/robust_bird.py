"""Robust Bird: find a sparse ticket early in standard training, then train it adversarially (Chen et al., Sparsity
Winning Twice, arXiv 2202.09844, ICLR 2022, section 3.2).

Stage "search": standard training of the dense network until its global magnitude masks stop changing. Stage "train":
adversarial training under that mask with a new optimiser; weights keep their values. As in the authors' code, the
search masks convolutions and the ticket includes the classifier. Length and schedule of the search are an
interpretation: at most 60 epochs, a learning-rate drop after 50.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from distcond.config.fields import setting
from distcond.config.schema import Config, Options
from distcond.errors import ConfigError
from distcond.methods import pgd_at, standard
from distcond.methods.method import Method, Stage
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
    search_milestones: tuple[float, ...] = setting(
        (5 / 6,), "learning-rate drops of the search, as shares of search_epochs", ge=0, le=1
    )
    queue_length: int = setting(5, "number of consecutive epochs whose masks must agree", ge=2)
    tolerance: float = setting(0.08, "largest share of entries in which agreeing masks differ", ge=0, le=1)


def stages(config: Config) -> tuple[Stage, ...]:
    """The stages "search" and "train"."""
    options = config.method
    assert isinstance(options, RobustBirdOptions)
    optim = replace(config.optim, schedule="multistep", milestones=options.search_milestones, warmup=0.0)
    return (
        Stage("search", options.search_epochs, standard.objective, optim),
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
