"""OAT: one network for every lam, told which by FiLM (Wang et al., arXiv 2010.11828, NeurIPS 2020).

    L = mean over the batch of (1 - lam) * CE(f(x; lam), y) + lam * CE(f(x_adv; lam), y)

lam is drawn per row. In the authors' order: a clean pass over all rows, the attack on the rows with lam > 0, each at
its own lam, an adversarial pass over those. lam = 0 takes the clean statistics, lam > 0 the adversarial ones, also for
clean images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from distcond.config.fields import setting
from distcond.config.schema import Config, Options
from distcond.layers.encode import Encoder, build_encoder
from distcond.layers.layer_set import LayerSet, film
from distcond.methods.method import Method, Objective
from distcond.methods.step_context import Outcome, RowSlice, StepContext, StepRandomness, count_correct
from distcond.registry import lookup
from distcond.samplers.distributions import FixedShareOptions
from distcond.seeding import generator

_PROBE = 1024


@dataclass(frozen=True, kw_only=True)
class OatOptions(Options):
    """OAT's own settings; the defaults are those of the authors' code."""

    encoding: Literal["none", "onehot", "dct", "rand"] = setting(
        "rand", "code of lam for FiLM: lam itself (none), or a row of the identity, of a DCT or of a random rotation"
    )
    dim: int = setting(128, "length of a code; encoding=none has 1", ge=1)
    lam_choices: tuple[float, ...] = setting(
        (0.0, 0.1, 0.2, 0.3, 0.4, 1.0), "the values of lam that have a code; give sampler.choices the same", ge=0, le=1
    )
    encoding_seed: int = setting(0, "seed of the random rotation", ge=0)
    interpolate: bool = setting(False, "mix the codes of neighbouring choices for a lam between them (not the paper)")
    identity_start: bool = setting(False, "FiLM starts as the identity (not the paper)")
    skip_clean_of_adversarial: bool = setting(
        False, "leave rows with lam = 1 out of the clean pass, where their loss weighs 0; changes its statistics"
    )


def layers(options: OatOptions, shared: bool) -> LayerSet:
    """Dual batch normalisation, and FiLM after each on the main path."""
    return film(encode(options).dim, options.identity_start, shared)


def encode(options: OatOptions) -> Encoder:
    """The encoder of lam.

    Raises:
        ConfigError: choices given twice, or more of them than `method.dim`.
    """
    return build_encoder(options.encoding, options.lam_choices, options.dim, options.interpolate, options.encoding_seed)


def objective(
    passes: StepContext, x: Tensor, y: Tensor, width: int = 0, skip_clean_of_adversarial: bool = False
) -> Outcome:
    """The hybrid loss at each row's lam, a mean over the global batch."""
    clean, (_, adv) = _clean_part(passes.draws, skip_clean_of_adversarial), passes.split()
    loss, seen_clean, seen_adv = x.new_zeros(()), None, None
    if clean.stop > clean.start:
        seen_clean = passes.logits(x[clean.rows], clean, "clean", width), y[clean.rows]
        loss = loss + passes.cross_entropy(*seen_clean, 1 - _lam(clean, x))
    if adv.stop > adv.start:
        moved = passes.adversarial(x[adv.rows], y[adv.rows], adv, width)
        seen_adv = passes.logits(moved, adv, "adversarial", width), y[adv.rows]
        loss = loss + passes.cross_entropy(*seen_adv, _lam(adv, x))
    return Outcome(loss, count_correct(seen_clean, seen_adv))


def make_objective(options: OatOptions) -> Objective:
    """The objective with its options filled in."""
    return partial(objective, skip_clean_of_adversarial=options.skip_clean_of_adversarial)


def lam_grid(config: Config) -> tuple[float, ...]:
    """`eval.lam_grid`.

    Raises:
        ConfigError: a lam of the grid, or one that the sampler draws, has no code.
    """
    assert isinstance(config.method, OatOptions)
    codes = encode(config.method)
    codes.check(torch.tensor(config.eval.lam_grid), "eval.lam_grid")
    drawn = lookup("sampler", config.sampler.name).draw(config.sampler, _PROBE, generator("probe"))
    codes.check(drawn, f"sampler={config.sampler.name} draws lam")
    return config.eval.lam_grid


def _clean_part(draws: StepRandomness, skip_adversarial: bool) -> RowSlice:
    return draws.part(0, int((draws.lam < 1).sum())) if skip_adversarial else draws.everything()


def _lam(part: RowSlice, like: Tensor) -> Tensor:
    return torch.as_tensor(part.lam).to(like.device, non_blocking=True)


METHOD = Method(
    name="oat",
    summary="FiLM by a code of lam, dual BN; lam drawn per row",
    paper="OAT, arXiv 2010.11828; order of the passes, routing and FiLM as in the authors' code",
    options=OatOptions(name="oat"),
    layers=layers,
    objective=make_objective,
    sampler=FixedShareOptions(name="fixed_share"),
    default_grid=OatOptions.lam_choices,
    encode=encode,
    lam_grid=lam_grid,
)
