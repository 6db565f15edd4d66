"""Distributions of lam over a batch: one value, two values, several in fixed or random shares, uniform, Beta.

`two_point` is FLOAT's and SMART's half clean, half adversarial batch (arXiv 2204.00426), `fixed_share` is OAT's sampler
(arXiv 2010.11828), `fixed` trains one operating point.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from distcond.config.fields import setting
from distcond.config.schema import Options
from distcond.errors import ConfigError
from distcond.samplers.sampler import Sampler, num_rows


@dataclass(frozen=True, kw_only=True)
class FixedOptions(Options):
    """One operating point."""

    lam: float = setting(1.0, "lam of every row", ge=0, le=1)


def draw_fixed(options: FixedOptions, n: int, generator: torch.Generator) -> Tensor:
    """`lam` in every row."""
    return torch.full((n,), options.lam)


FIXED = Sampler("fixed", "one lam for every row", draw_fixed, FixedOptions(name="fixed"))


@dataclass(frozen=True, kw_only=True)
class TwoPointOptions(Options):
    """Two operating points."""

    low: float = setting(0.0, "the lower lam", ge=0, le=1)
    high: float = setting(1.0, "the higher lam", ge=0, le=1)
    share: float = setting(0.5, "share of the batch at the lower lam, rounded up", ge=0, le=1)


def draw_two_point(options: TwoPointOptions, n: int, generator: torch.Generator) -> Tensor:
    """The first `ceil(share * n)` rows low, the others high: counts are constant."""
    num_low = num_rows(options.share, n)
    return torch.cat([torch.full((num_low,), options.low), torch.full((n - num_low,), options.high)])


TWO_POINT = Sampler(
    "two_point", "two values of lam in fixed shares (FLOAT, SMART)", draw_two_point, TwoPointOptions(name="two_point")
)


@dataclass(frozen=True, kw_only=True)
class FixedShareOptions(Options):
    """Several values of lam, with a fixed share of rows at 0."""

    choices: tuple[float, ...] = setting((0.0, 0.1, 0.2, 0.3, 0.4, 1.0), "the values of lam", ge=0, le=1)
    share: float | None = setting(
        None, "share of the batch at lam = 0, rounded up; none = 1 / number of choices", ge=0, le=1
    )
    batchwise: bool = setting(False, "one choice for all rows of a batch, each equally likely; share has no effect")


def draw_fixed_share(options: FixedShareOptions, n: int, generator: torch.Generator) -> Tensor:
    """A constant number of rows at 0, then rows drawn uniformly from the other choices.

    No row is at 0 if 0 is not a choice; every row is if 0 is the only choice. Batch-wise, all rows have one choice
    (`--sampling bw` of OAT's code, which does not run there).
    """
    if options.batchwise:
        choice = torch.randint(len(options.choices), (), generator=generator)
        return torch.tensor(options.choices)[choice].repeat(n)
    others = torch.tensor([choice for choice in options.choices if choice != 0])
    if 0 not in options.choices:
        num_zero = 0
    elif len(others) == 0:
        num_zero = n
    else:
        share = 1 / len(options.choices) if options.share is None else options.share
        num_zero = num_rows(share, n)
    if num_zero == n:
        return torch.zeros(n)
    lam = others[torch.randint(len(others), (n - num_zero,), generator=generator)]
    return torch.cat([torch.zeros(num_zero), lam])


FIXED_SHARE = Sampler(
    "fixed_share",
    "a fixed share at lam = 0, the rest among choices (OAT)",
    draw_fixed_share,
    FixedShareOptions(name="fixed_share"),
)


@dataclass(frozen=True, kw_only=True)
class UniformOptions(Options):
    """A range of lam."""

    low: float = setting(0.0, "the lowest lam", ge=0, le=1)
    high: float = setting(1.0, "the highest lam", ge=0, le=1)
    share: float = setting(
        0.2, "share of the batch at lam = 0, the only rows of the clean statistics; rounded up", ge=0, le=1
    )


def draw_uniform(options: UniformOptions, n: int, generator: torch.Generator) -> Tensor:
    """A constant number of rows at 0, the others uniform in (low, high].

    Raises:
        ConfigError: low is above high.
    """
    if options.low > options.high:
        raise ConfigError(f"sampler.low={options.low:g}: must be at most sampler.high={options.high:g}")
    num_zero = num_rows(options.share, n)
    # 1 - rand excludes 0, which would add a row to the clean path.
    lam = options.low + (options.high - options.low) * (1 - torch.rand(n - num_zero, generator=generator))
    return torch.cat([torch.zeros(num_zero), lam])


UNIFORM = Sampler("uniform", "uniform over a range, a share at lam = 0", draw_uniform, UniformOptions(name="uniform"))


@dataclass(frozen=True, kw_only=True)
class UniformDiscreteOptions(Options):
    """Several values of lam."""

    choices: tuple[float, ...] = setting((0.0, 0.1, 0.2, 0.3, 0.4, 1.0), "the values of lam", ge=0, le=1)


def draw_uniform_discrete(options: UniformDiscreteOptions, n: int, generator: torch.Generator) -> Tensor:
    """Each row drawn uniformly from the choices: the number of rows at 0 varies between batches."""
    return torch.tensor(options.choices)[torch.randint(len(options.choices), (n,), generator=generator)]


UNIFORM_DISCRETE = Sampler(
    "uniform_discrete",
    "each row one of the choices",
    draw_uniform_discrete,
    UniformDiscreteOptions(name="uniform_discrete"),
)


@dataclass(frozen=True, kw_only=True)
class BetaOptions(Options):
    """Shape parameters of the Beta distribution; values below 1 favour the ends 0 (a) and 1 (b)."""

    a: float = setting(0.5, "first shape parameter; small = many near 0", gt=0)
    b: float = setting(0.5, "second shape parameter; small = many near 1", gt=0)
    share: float = setting(
        0.2, "share of the batch at lam = 0, the only rows of the clean statistics; rounded up", ge=0, le=1
    )


def draw_beta(options: BetaOptions, n: int, generator: torch.Generator) -> Tensor:
    """A constant number of rows at 0, the others from Beta(a, b), mean a / (a + b)."""
    num_zero = num_rows(options.share, n)
    # torch's Beta takes no generator.
    seed = int(torch.randint(2**62, (), generator=generator))
    lam = np.random.default_rng(seed).beta(options.a, options.b, n - num_zero)
    return torch.cat([torch.zeros(num_zero), torch.from_numpy(lam).float().clamp(0, 1)])


BETA = Sampler("beta", "Beta(a, b), a share at lam = 0", draw_beta, BetaOptions(name="beta"))
