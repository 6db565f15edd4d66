"""MixedNUTS (Bai et al. 2024, arXiv 2402.02263): a robust network's logits transformed before they are mixed.

    M(h) = s |g|^p sgn(g),   g = GELU(LN(h) + c)
    mix  = log((1 - t) softmax(h_std) + t softmax(M(h_rob)))

Robust networks are more confident in correct predictions than in wrong ones, also under attack; s, p and c enlarge
that difference. The robust network's prediction wins where its margin is at least (1 - t) / t.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from distcond.errors import ConfigError

#: Layer normalisation uses the largest logits only, if there are more classes (as in the authors' code).
TOP = 250
#: Grid of the search: the union of the ranges in the authors' code for CIFAR-10, CIFAR-100 and ImageNet.
SCALES = (0.01, 0.025, 0.06, 0.15, 0.35, 0.8, 2.0, 5.0)
POWERS = (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
SHIFTS = (-2.5, -2.1, -1.75, -1.4, -1.1, -0.7, -0.35, 0.0)
#: Fewest classes for which normalised logits contain more than their order.
MIN_CLASSES = 3
#: Margins closer to 1 than this cannot be distinguished in float32.
SATURATED = 3e-6


class Mix(NamedTuple):
    """The parameters of the transformation M."""

    s: float  # scale, above 0
    p: float  # power, above 0
    c: float  # shift before the GELU


class MixFit(NamedTuple):
    """The result of a fit.

    Attributes:
        mix: the transformation.
        alpha: the paper's one operating point, a `t`: the share of the robust network at which a share `beta` of its
            correct predictions under attack is kept, whatever the standard network predicts.
        surpass: share of the clean images it gets wrong that no standard network can correct at `alpha`.
    """

    mix: Mix
    alpha: float
    surpass: float


def transform_logits(logits: Tensor, mix: Mix) -> Tensor:
    """M(h): logits (N, K) to logits (N, K). Value and gradient are finite for finite logits."""
    top = logits.sort(1, descending=True).values[:, :TOP]  # as topk, but can be traced for any number of classes
    normal = (logits - top.mean(1, keepdim=True)) * torch.rsqrt(top.var(1, keepdim=True) + 1e-8)
    clamped = F.gelu(normal + mix.c)
    return mix.s * clamped.abs() ** mix.p * clamped.sign()


def margins(logits: Tensor, mix: Mix) -> Tensor:
    """Lead of the prediction of `logits` over the next class in softmax(M(h)), (N,) float64.

    Below 0 where M changes the prediction: GELU is not monotonic below -0.75, so a large shift can do that.
    """
    probabilities, predicted = transform_logits(logits.double(), mix).softmax(1), logits.argmax(1, keepdim=True)
    others = probabilities.scatter(1, predicted, -torch.inf).amax(1)
    return probabilities.gather(1, predicted)[:, 0] - others


def fit_transformation(wrong: Tensor, attacked: Tensor, beta: float = 0.985) -> MixFit:
    """Grid search for the transformation, as in the paper, among those that change no prediction on these images.

    Minimises the share of `wrong` whose margin reaches the (1 - `beta`) quantile of `attacked`. Of several grid points
    with the same share, the one with the largest difference of mean margins is chosen; the paper leaves this open.

    Args:
        wrong: the robust network's logits (N, K) of clean images it gets wrong.
        attacked: those (M, K) of attacked images it gets right.
        beta: share of the latter that has to stay right, in (0, 1).

    Raises:
        ConfigError: no image of one kind, or fewer classes than `MIN_CLASSES`.
    """
    check_classes(attacked.shape[1])
    kinds = {"clean images that the robust run gets wrong": wrong, "attacked images it gets right": attacked}
    for kind, logits in kinds.items():
        if not len(logits):
            raise ConfigError(f"mix=mixednuts: needs {kind}, found none; raise eval.val_examples, or use another mix")
    scores = {Mix(*at): _score(wrong, attacked, beta, Mix(*at)) for at in product(SCALES, POWERS, SHIFTS)}
    valid = {mix: score for mix, score in scores.items() if score is not None}  # not empty: a shift of 0 is monotonic
    usable = {mix: score for mix, score in valid.items() if score[2] < 1 - SATURATED} or valid
    best = min(usable, key=lambda mix: usable[mix][:2])
    surpass, _, margin = usable[best]
    return MixFit(best, 1 / (1 + margin), surpass)


def check_classes(count: int) -> None:
    """Check that a data set has enough classes.

    Raises:
        ConfigError: fewer than `MIN_CLASSES`.
    """
    if count < MIN_CLASSES:
        raise ConfigError(
            f"mix=mixednuts: {count} classes, needs {MIN_CLASSES}: of fewer logits layer normalisation leaves only the "
            "order; valid: weights, outputs, folded"
        )


def _score(wrong: Tensor, attacked: Tensor, beta: float, mix: Mix) -> tuple[float, float, float] | None:
    """(share of wrong images beyond the threshold, difference of the mean margins, threshold); lower is better.

    None if a prediction is changed.
    """
    of_wrong, of_attacked = margins(wrong, mix), margins(attacked, mix)
    if float(of_wrong.min()) < 0 or float(of_attacked.min()) < 0:
        return None
    threshold = float(torch.quantile(of_attacked, 1 - beta))
    surpass = float((of_wrong >= threshold).double().mean())
    return surpass, float(of_wrong.mean() - of_attacked.mean()), threshold
