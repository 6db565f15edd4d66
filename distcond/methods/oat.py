"""OAT: one network for all lam, conditioned by FiLM (Wang et al., arXiv 2010.11828, NeurIPS 2020).

    L = mean over the batch of (1 - lam) * CE(f(x; lam), y) + lam * CE(f(x_adv; lam), y)

lam is drawn per row. In the authors' order: a clean pass over all rows, the attack on the rows with lam > 0, each at
its own lam, and an adversarial pass over those rows. Rows with lam = 0 use the clean statistics, rows with lam > 0 the
adversarial ones, for clean images too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from distcond.config.fields import setting
from distcond.config.schema import Config, Options
from distcond.errors import ConfigError
from distcond.layers.encode import Encoder, build_encoder
from distcond.layers.layer_set import LayerSet, film_layers
from distcond.methods.method import Method, Objective
from distcond.methods.step_context import Outcome, RowSlice, StepContext, StepRandomness, count_correct
from distcond.methods.trades import attack_divergence, check_random_start, kl_divergence
from distcond.registry import lookup
from distcond.samplers.distributions import FixedShareOptions
from distcond.seeding import generator

#: Draws of lam that are checked for a code: rows of one batch, and batches.
_NUM_PROBES, _NUM_BATCHES = 1024, 64


@dataclass(frozen=True, kw_only=True)
class OatOptions(Options):
    """Settings of OAT, with the defaults of the authors' code."""

    encoding: Literal["none", "onehot", "dct", "rand"] = setting(
        "rand", "code of lam for FiLM: lam itself (none), or a row of the identity, of a DCT or of a random rotation"
    )
    dim: int = setting(128, "length of a code; encoding=none has 1", ge=1)
    lam_choices: tuple[float, ...] = setting(
        (0.0, 0.1, 0.2, 0.3, 0.4, 1.0), "values of lam with a code; set sampler.choices to the same", ge=0, le=1
    )
    encoding_seed: int = setting(0, "seed of the random rotation", ge=0)
    code_file: str = setting(
        "",
        "file of the rotation in place of encoding_seed: a .npy of dim columns, such as the authors' rand_otho_mat.npy",
    )
    interpolate: bool = setting(False, "interpolate the codes of neighbouring choices (not in the paper)")
    identity_start: bool = setting(False, "initialise FiLM as the identity (not in the paper)")
    dual_bn: bool = setting(True, "a batch normalisation for lam = 0 and one for lam > 0; false = one for all lam")
    loss: Literal["cross_entropy", "trades"] = setting(
        "cross_entropy", "loss under attack: cross-entropy, or agreement with the clean images as in TRADES"
    )
    beta: float = setting(6.0, "loss=trades: weight of the agreement at lam = 1", ge=0)
    skip_clean_of_adversarial: bool = setting(
        False, "skip rows with lam = 1 in the clean pass, where their loss has weight 0; changes its statistics"
    )


def layers(options: OatOptions, shared: bool) -> LayerSet:
    """Dual batch normalisation, or one with `dual_bn` off, followed by FiLM on the main path."""
    return film_layers(encode(options).dim, options.identity_start, shared, options.dual_bn)


def encode(options: OatOptions) -> Encoder:
    """The encoder of lam.

    Raises:
        ConfigError: repeated choices, or more choices than `method.dim`.
    """
    return build_encoder(options.encoding, options.lam_choices, options.dim, options.interpolate, options.encoding_seed)


def objective(
    step: StepContext, x: Tensor, y: Tensor, width: int = 0, skip_clean_of_adversarial: bool = False
) -> Outcome:
    """The hybrid loss at each row's lam, averaged over the global batch."""
    clean, (_, adv) = _clean_rows(step.randomness, skip_clean_of_adversarial), step.split_by_lam()
    loss, clean_pass, adv_pass = x.new_zeros(()), None, None
    if clean.stop > clean.start:
        clean_pass = step.logits(x[clean.rows], clean, "clean", width), y[clean.rows]
        loss = loss + step.cross_entropy(*clean_pass, 1 - _lam_tensor(clean, x))
    if adv.stop > adv.start:
        x_adv = step.make_adversarial(x[adv.rows], y[adv.rows], adv, width)
        adv_pass = step.logits(x_adv, adv, "adversarial", width), y[adv.rows]
        loss = loss + step.cross_entropy(*adv_pass, _lam_tensor(adv, x))
    return Outcome(loss, count_correct(clean_pass, adv_pass))


def trades_objective(step: StepContext, x: Tensor, y: Tensor, width: int = 0, beta: float = 6.0) -> Outcome:
    """`CE(f(x; lam), y) + lam * beta * KL(f(x; lam) || f(x_adv; lam))`, averaged over the global batch.

    Interpretation: TRADES' loss with its weight scaled by lam, so lam = 0 is standard training and lam = 1 is TRADES.
    The attack maximises the divergence from the clean outputs in eval mode.
    """
    rows, (_, adv) = step.randomness.all_rows(), step.split_by_lam()
    clean, adv_pass = step.logits(x, rows, "clean", width), None
    loss = step.cross_entropy(clean, y)
    if adv.stop > adv.start:
        x_adv = attack_divergence(step, x[adv.rows], adv, width)
        adv_pass = step.logits(x_adv, adv, "adversarial", width), y[adv.rows]
        divergence = kl_divergence(adv_pass[0], clean[adv.rows])
        loss = loss + beta * step.global_mean(_lam_tensor(adv, x) * divergence)
    return Outcome(loss, count_correct((clean, y), adv_pass))


def one_width_objective(options: OatOptions) -> Callable[..., Outcome]:
    """The objective of one width, (step, x, y, width), with its options bound."""
    if options.loss == "trades":
        return partial(trades_objective, beta=options.beta)
    return partial(objective, skip_clean_of_adversarial=options.skip_clean_of_adversarial)


def make_objective(options: OatOptions) -> Objective:
    """The objective with its options bound."""
    return one_width_objective(options)


def lam_grid(config: Config) -> tuple[float, ...]:
    """`eval.lam_grid`.

    Raises:
        ConfigError: a lam of the grid, or one that the sampler draws, has no code; or settings contradict each other.
    """
    options, sampler, source = config.method, lookup("sampler", config.sampler.name), generator("probe")
    assert isinstance(options, OatOptions)
    encoder = encode(options)
    encoder.check(torch.tensor(config.eval.lam_grid), "eval.lam_grid")
    for rows in (_NUM_PROBES, *(1,) * _NUM_BATCHES):  # a sampler may draw one lam for all rows of a batch
        encoder.check(sampler.draw(config.sampler, rows, source), f"sampler={config.sampler.name} draws lam")
    if options.loss == "trades":
        _check_trades(config, options)
    return config.eval.lam_grid


def _check_trades(config: Config, options: OatOptions) -> None:
    check_random_start(config)
    if options.skip_clean_of_adversarial:
        raise ConfigError(
            "method.skip_clean_of_adversarial=true: loss=trades needs the clean images of every row; set it false"
        )


def _clean_rows(randomness: StepRandomness, skip_adversarial: bool) -> RowSlice:
    if skip_adversarial:
        return randomness.slice_rows(0, int((randomness.lam < 1).sum()))
    return randomness.all_rows()


def _lam_tensor(part: RowSlice, like: Tensor) -> Tensor:
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
