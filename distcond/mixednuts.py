"""MixedNUTS (Bai et al. 2024, arXiv 2402.02263): a robust network's logits transformed before they are mixed.

    M(h) = s |g|^p sgn(g),   g = GELU(LN(h) + c)
    mix  = log((1 - t) softmax(h_std) + t softmax(M(h_rob)))

Robust networks are surer of right answers than of wrong ones, under attack too; s, p and c enlarge that difference.
What the robust network answers outweighs any other answer where its margin is at least (1 - t) / t.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from distcond.errors import ConfigError

#: The largest logits by which layer normalisation goes, where there are more classes (as the authors' code).
TOP = 250
#: The grid of the search: the ranges that the authors' code has for CIFAR-10, CIFAR-100 and ImageNet, taken together.
SCALES = (0.01, 0.025, 0.06, 0.15, 0.35, 0.8, 2.0, 5.0)
POWERS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
SHIFTS = (-2.5, -2.1, -1.75, -1.4, -1.1, -0.7, -0.35, 0.0)
#: The fewest classes whose logits say more than their order, once they are normalised.
MIN_CLASSES = 3
#: Margins closer to 1 than this are no longer told apart in float32.
SATURATED = 3e-6


class Mix(NamedTuple):
    """The transformation's numbers: scale and power above 0, and what is added before the clamp."""

    s: float
    p: float
    c: float


class MixFit(NamedTuple):
    """What a fit found.

    Attributes:
        mix: the transformation.
        alpha: the share of the robust network at which the attacked images it gets right stay right by `beta`: the
            paper's one operating point, a `t`.
        surpass: of the clean images it gets wrong, the share that no standard network can mend at `alpha`.
    """

    mix: Mix
    alpha: float
    surpass: float


def transform_logits(logits: Tensor, mix: Mix) -> Tensor:
    """M(h): logits (N, K) to logits (N, K). Finite, and finitely steep, for finite logits."""
    top = logits.topk(min(TOP, logits.shape[1]), 1).values
    normal = (logits - top.mean(1, keepdim=True)) * torch.rsqrt(top.var(1, keepdim=True) + 1e-8)
    clamped = F.gelu(normal + mix.c)
    return mix.s * clamped.abs() ** mix.p * clamped.sign()


def margins(logits: Tensor, mix: Mix) -> Tensor:
    """By how much the answer of `logits` leads the next class of softmax(M(h)), (N,) float64; below 0 where M turns it.

    GELU falls below -0.75: under a large shift another class than the first of h may come first.
    """
    shares, answer = transform_logits(logits.double(), mix).softmax(1), logits.argmax(1, keepdim=True)
    others = shares.scatter(1, answer, -torch.inf).amax(1)
    return shares.gather(1, answer)[:, 0] - others


def fit_transformation(wrong: Tensor, attacked: Tensor, beta: float = 0.985) -> MixFit:
    """Grid search for the transformation, as in the paper, among those that turn no answer of these images.

    Minimised is the share of `wrong` whose margin reaches that of all but 1 - `beta` of `attacked`. Several points of
    the grid may reach the same share; of these the one whose mean margins lie furthest apart is taken, which is an
    interpretation.

    Args:
        wrong: the robust network's logits (N, K) of clean images it gets wrong.
        attacked: those (M, K) of attacked images it gets right all the same.
        beta: share of the latter that has to stay right, in (0, 1).

    Raises:
        ConfigError: no image of one kind, or fewer classes than `MIN_CLASSES`.
    """
    check_classes(attacked.shape[1])
    kinds = {"clean images that the robust run gets wrong": wrong, "attacked images it gets right": attacked}
    for kind, logits in kinds.items():
        if not len(logits):
            raise ConfigError(f"mix=mixednuts: fitted on {kind}, here are none; more eval.val_examples, or another mix")
    tried = {Mix(*at): _tried(wrong, attacked, beta, Mix(*at)) for at in product(SCALES, POWERS, SHIFTS)}
    found = {mix: of for mix, of in tried.items() if of is not None}  # never empty: a shift of 0 turns nothing
    usable = {mix: of for mix, of in found.items() if of[2] < 1 - SATURATED} or found
    best = min(usable, key=lambda mix: usable[mix][:2])
    surpass, _, margin = usable[best]
    return MixFit(best, 1 / (1 + margin), surpass)


def check_classes(count: int) -> None:
    """Refuse a data set of too few classes.

    Raises:
        ConfigError: fewer than `MIN_CLASSES`.
    """
    if count < MIN_CLASSES:
        raise ConfigError(
            f"mix=mixednuts: {count} classes; layer normalisation leaves nothing of fewer than {MIN_CLASSES} logits "
            "but which is larger; valid: weights, outputs, folded"
        )


def _tried(wrong: Tensor, attacked: Tensor, beta: float, mix: Mix) -> tuple[float, float, float] | None:
    """(share of wrong images beyond the threshold, how much less far apart the means lie, the threshold).

    None where an answer is turned.
    """
    of_wrong, of_attacked = margins(wrong, mix), margins(attacked, mix)
    if float(of_wrong.min()) < 0 or float(of_attacked.min()) < 0:
        return None
    threshold = float(torch.quantile(of_attacked, 1 - beta))
    surpass = float((of_wrong >= threshold).double().mean())
    return surpass, float(of_wrong.mean() - of_attacked.mean()), threshold
