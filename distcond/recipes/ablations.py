"""The ablations behind the papers' claims: a recipe of the experiment with a few settings changed, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from distcond.recipes import authors, once_for_all, sparsity_winning_twice
from distcond.recipes.recipe import SOLAR, Deviation, Paper, Recipe
from distcond.recipes.train_flops import TRAIN_FLOPS

_EXPERIMENTS = {
    recipe.name: recipe
    for recipe in (
        *once_for_all.OAT_RECIPES,
        *once_for_all.FLOAT_RECIPES,
        *once_for_all.SMART_RECIPES,
        *sparsity_winning_twice.RECIPES,
    )
}


class _Ablation(NamedTuple):
    """What an ablation changes in an experiment.

    Attributes:
        base: name of the experiment's recipe.
        variant: suffix of the name.
        title: what it shows, in a few words.
        settings: changes to the recipe.
        deviations: what is open in it, besides what is in the experiment.
        paper: where it was published, if not with the experiment.
    """

    base: str
    variant: str
    title: str
    settings: Mapping[str, Any]
    deviations: tuple[Deviation, ...] = ()
    paper: Paper | None = None


_OAT, _PGD_AT, _FLOAT = "oat_cifar10_resnet34", "pgd_at_cifar10_resnet34", "float_cifar10_resnet34"
_SMART, _DENSE, _BIRD = "smart_cifar10_resnet34", "pgd_at_cifar10_preact_resnet18", "cifar10_preact_resnet18"


def _lam_set(name: str, choices: str) -> _Ablation:
    settings = {"method.lam_choices": choices, "sampler.choices": choices, "eval.lam_grid": choices}
    open_set = Deviation("lam set", choices, "unknown, their other sets were not recovered")
    return _Ablation(_OAT, name, f"lam of {choices}", settings, (open_set,))


def _codes(name: str, title: str, **settings: Any) -> _Ablation:
    return _Ablation(_OAT, name, title, {f"method.{path}": value for path, value in settings.items()})


_OAT_ABLATIONS = (
    _Ablation(_OAT, "one_bn", "one batch normalisation for all lam", {"method.dual_bn": False}),
    _Ablation(_OAT, "batchwise_lam", "one lam per batch", {"sampler.batchwise": True}),
    _lam_set("even_lam", "0,0.2,0.4,0.6,0.8,1"),
    _lam_set("two_lam", "0,1"),
    _codes("raw_lam", "lam itself in place of a code", encoding="none"),
    _codes("onehot128", "one-hot codes of 128", encoding="onehot"),
    _codes("dct16", "DCT codes of 16", encoding="dct", dim=16),
    _codes("dct128", "DCT codes of 128", encoding="dct"),
    _codes("rand16", "RAND codes of 16", encoding="rand", dim=16),
    _Ablation(
        _OAT, "trades", "TRADES in place of PGD-AT", {"method.loss": "trades", "method.beta": 6.0},
        (Deviation("loss", "cross-entropy plus lam times beta 6 times the divergence", "unknown weights"),),
    ),
    _Ablation(
        _PGD_AT, "slimmable", "the baseline of OATS, one lam at widths 1, 0.75 and 0.5",
        {"method.width_mults": "1,0.75,0.5"}, (authors.SLIMMABLE_LOOP,),
    ),
    _Ablation(
        "oats_cifar10_resnet34", "solar", "one classifier per width",
        {"method.heads": "per_width", "epochs": 100, "eval.select": "sa", "eval.every": 1}, paper=SOLAR,
    ),
)  # fmt: skip

_FLOAT_ABLATIONS = (
    _Ablation(_FLOAT, "authors", "the loss of the authors' code", {"method.loss": "authors", "optim.no_decay": ""}),
    _Ablation(_FLOAT, "channel_alpha", "one amplitude per channel", {"method.alpha_by": "channel"}),
    _Ablation(_FLOAT, "weight_alpha", "one amplitude per weight", {"method.alpha_by": "weight"}),
    _Ablation("floats_cifar10_resnet34", "by_channel", "complete input channels", {"method.by": "channel"}),
)


def _overlap(name: str, share: float) -> _Ablation:
    settings = {"method.overlap": share, "method.drop_fraction": 0.0}
    open_study = Deviation("overlap study", "fixed random masks in all convolutions", "unknown masks and layers")
    return _Ablation(_SMART, name, f"fixed masks with {share:.0%} of their weights in common", settings, (open_study,))


_SMART_ABLATIONS = (_overlap("overlap0", 0.0), _overlap("overlap50", 0.5), _overlap("overlap100", 1.0))

_TRAIN_MODE = {"attack_mode": "train"}
_SPARSE_ABLATIONS = (
    *(
        _Ablation(f"{method}_{_BIRD}", "train_mode", "attacked in train mode, as by the authors", _TRAIN_MODE)
        for method in ("pgd_at", "robust_bird", "flying_bird", "flying_bird_plus")
    ),
    _Ablation(f"robust_bird_{_BIRD}", "pgd_search", "a search by PGD-AT", {"method.search": "pgd"}),
    _Ablation(f"robust_bird_{_BIRD}", "fast_search", "a search by one-step training", {"method.search": "fast"}),
    _Ablation(
        f"flying_bird_{_BIRD}", "scripts", "IGQ and random growth, as in the authors' scripts",
        {"method.distribution": "igq", "method.growth": "random"},
    ),
)  # fmt: skip


def _recipe(ablation: _Ablation) -> Recipe:
    base, name = _EXPERIMENTS[ablation.base], f"{ablation.base}_{ablation.variant}"
    paper = ablation.paper or base.paper
    assert paper is not None
    settings = {**base.settings, **ablation.settings}
    own = set(ablation.settings)
    return replace(
        base,
        name=name,
        summary=f"{base.summary}: {ablation.title}",
        reproduces=f"arXiv {paper.arxiv}, an ablation of {base.name}: {ablation.title}",
        expect="not recovered",
        settings=settings,
        paper=paper,
        deviations=(*ablation.deviations, *(kept for kept in base.deviations if not own & set(kept.settings))),
        authors={path: value for path, value in base.authors.items() if path not in own},
        variant=ablation.variant,
        train_flops=TRAIN_FLOPS.get(name, 0.0),
    )


RECIPES = tuple(map(_recipe, (*_OAT_ABLATIONS, *_FLOAT_ABLATIONS, *_SMART_ABLATIONS, *_SPARSE_ABLATIONS)))
