"""The checks for masked gradients, each one `Finding` on the evidence, with exact tests against luck.

Signs of Athalye et al. (2018, sections 2 and 3.1) and Carlini et al. (2019, section 4): gradients vanish or are
shattered; one step, black-box search or a shorter step beats the many-step attack; more steps or a larger epsilon do
not help; an attack without bound leaves survivors; answers are random. Catastrophic overfitting (Wong et al. 2020; Kim
et al. 2021; Andriushchenko and Flammarion 2020): the loss falls along its own gradient, and many steps break what the
training's own attack leaves.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from distcond.attacks.randomness import TOLERANCE
from distcond.gradient_masking.evidence import EPSILON_SHARES, UNBOUNDED, Evidence

#: A network that does what an honest one does is given a warning at most this often, by each check.
SIGNIFICANCE_LEVEL = 1e-3


def binomial_tail(count: int, trials: int, share: float) -> float:
    """P(X >= count) for X ~ Binomial(trials, share), `share` in [0, 1]."""
    return min(1.0, math.fsum(_mass(k, trials, share) for k in range(count, trials + 1)))


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """One-sided exact McNemar test: how likely so many examples go to the first alone, were it not the stronger one.

    Examples on which both agree say nothing.
    """
    return binomial_tail(only_first, only_first + only_second, 0.5)


def _mass(count: int, trials: int, share: float) -> float:
    return math.comb(trials, count) * share**count * (1 - share) ** (trials - count)


class Finding(NamedTuple):
    """One check of one network at one operating point.

    Attributes:
        name: the warning, one of the stable names in snake_case.
        warned: whether it holds of this network; `p_value` is below the level then.
        value: the share or count that was looked at, and `threshold`, what an honest network keeps to.
        p_value: how likely so much is by luck, for a network just within the threshold.
        fact: what was seen, for people: "37 % of 64 inputs".
        meaning: why that matters and what to do, one line.
    """

    name: str
    warned: bool
    value: float
    threshold: float
    p_value: float
    fact: str
    meaning: str


_ZERO_GRADIENTS = "zero_gradients"
#: Share of the images at which an honest network's float32 gradient may vanish.
ZERO_GRADIENT_SHARE = 0.05
_ZERO_GRADIENTS_MEANING = (
    "the loss has no gradient there (rounding, saturation): use attack=cw or square, or attack without that part"
)


def zero_gradients(evidence: Evidence) -> Finding:
    """Warn if the share of images without gradient is above `ZERO_GRADIENT_SHARE`.

    A gradient below the smallest normal float32 counts as zero.
    """
    count = int((evidence.gradient < torch.finfo(torch.float32).tiny).sum())
    share, p_value = count / max(evidence.size, 1), binomial_tail(count, evidence.size, ZERO_GRADIENT_SHARE)
    fact = f"{100 * share:.0f} % of {evidence.size} inputs"
    return Finding(
        _ZERO_GRADIENTS,
        p_value < SIGNIFICANCE_LEVEL,
        share,
        ZERO_GRADIENT_SHARE,
        p_value,
        fact,
        _ZERO_GRADIENTS_MEANING,
    )


_SINGLE_STEP_STRONGER = "single_step_stronger"
_SINGLE_STEP_STRONGER_MEANING = (
    "the many-step attack is stuck or too weak: raise eval.attack.num_steps or step_size, try attack=apgd-ce"
)


def single_step_stronger(evidence: Evidence) -> Finding:
    """Warn if FGSM alone breaks more images than the many-step attack alone, paired image by image."""
    one, many = evidence.ray.wrong[-1], evidence.path.wrong.any(0)
    single, iterated = int((one & ~many).sum()), int((many & ~one).sum())
    p_value = mcnemar_p_value(single, iterated)
    fact = f"{single} of {evidence.size} inputs broken by one step alone, {iterated} by many alone"
    return Finding(
        _SINGLE_STEP_STRONGER,
        p_value < SIGNIFICANCE_LEVEL,
        single,
        iterated,
        p_value,
        fact,
        _SINGLE_STEP_STRONGER_MEANING,
    )


_BLACK_BOX_STRONGER = "black_box_stronger"
_BLACK_BOX_STRONGER_MEANING = (
    "gradients mislead the attack, or it is too weak: its RA is too high, use attack=square or autoattack"
)


def black_box_stronger(evidence: Evidence) -> Finding | None:
    """Warn if random search alone breaks more images than the many-step gradient attack alone, paired."""
    if evidence.black_box is None:
        return None
    blind, white = evidence.black_box, evidence.path.wrong.any(0)
    searched, graded = int((blind & ~white).sum()), int((white & ~blind).sum())
    p_value = mcnemar_p_value(searched, graded)
    fact = f"{searched} of {evidence.size} inputs broken by random search alone, {graded} by gradients alone"
    return Finding(
        _BLACK_BOX_STRONGER, p_value < SIGNIFICANCE_LEVEL, searched, graded, p_value, fact, _BLACK_BOX_STRONGER_MEANING
    )


_MORE_STEPS_DO_NOT_HELP = "more_steps_do_not_help"
#: Share of the images at which an honest network's attack may be done early.
STUCK_SHARE = 0.5
_MORE_STEPS_DO_NOT_HELP_MEANING = (
    "the attack gets nowhere after its start: use attack=apgd-ce or square and look at the step size"
)


def more_steps_do_not_help(evidence: Evidence) -> Finding:
    """Warn if more than `ZERO_GRADIENT_SHARE` of the images gain no loss and no margin after a quarter of the steps."""
    path = evidence.path
    early = 1 + max(1, (len(path.loss) - 1) // 4)
    stuck = (
        ~(_rises_later(path.loss, early) | _rises_later(path.margin, early))
        if early < len(path.loss)
        else path.wrong[0]
    )
    count = int(stuck.sum())
    share, p_value = count / max(evidence.size, 1), binomial_tail(count, evidence.size, STUCK_SHARE)
    fact = f"{100 * share:.0f} % of {evidence.size} inputs"
    return Finding(
        _MORE_STEPS_DO_NOT_HELP,
        p_value < SIGNIFICANCE_LEVEL,
        share,
        STUCK_SHARE,
        p_value,
        fact,
        _MORE_STEPS_DO_NOT_HELP_MEANING,
    )


def _rises_later(values: Tensor, early: int) -> Tensor:
    """Whether the highest of (T, N) values comes after the first `early`."""
    return values[early:].amax(0) > values[:early].amax(0)


_LARGER_EPSILON_DOES_NOT_HELP = "larger_epsilon_does_not_help"
#: Share of the images that may survive an attack whose ball holds a grey image: the luck of ten classes.
SURVIVOR_SHARE = 0.1
_LARGER_EPSILON_DOES_NOT_HELP_MEANING = (
    "the attack does not use its room (catastrophic overfitting, stuck gradients): use attack=autoattack"
)


def larger_epsilon_does_not_help(evidence: Evidence) -> Finding:
    """Warn on survivors of the unbounded attack, or if a shorter step alone breaks more than the whole one alone.

    The level is shared between all of these comparisons.
    """
    found = [_shorter_step(evidence.ray.wrong, place, evidence.size) for place in range(len(EPSILON_SHARES) - 1)]
    if evidence.unbounded is not None:
        found.append(_unbounded_survivors(int((~evidence.unbounded.wrong.any(0)).sum()), evidence.size))
    worst = min(found, key=lambda finding: finding.p_value)
    p_value = min(1.0, worst.p_value * len(found))
    return worst._replace(p_value=p_value, warned=p_value < SIGNIFICANCE_LEVEL)


def _shorter_step(wrong: Tensor, place: int, size: int) -> Finding:
    short, whole = (int((wrong[a] & ~wrong[b]).sum()) for a, b in ((place, -1), (-1, place)))
    fact = (
        f"{short} of {size} inputs broken by {EPSILON_SHARES[place]:g} epsilon alone, {whole} by the whole of it alone"
    )
    return Finding(
        _LARGER_EPSILON_DOES_NOT_HELP,
        False,
        short,
        whole,
        mcnemar_p_value(short, whole),
        fact,
        _LARGER_EPSILON_DOES_NOT_HELP_MEANING,
    )


def _unbounded_survivors(alive: int, size: int) -> Finding:
    share = alive / max(size, 1)
    fact = f"{100 * share:.0f} % of {size} inputs survive epsilon {UNBOUNDED:g}"
    return Finding(
        _LARGER_EPSILON_DOES_NOT_HELP,
        False,
        share,
        SURVIVOR_SHARE,
        binomial_tail(alive, size, SURVIVOR_SHARE),
        fact,
        _LARGER_EPSILON_DOES_NOT_HELP_MEANING,
    )


_LOSS_DOES_NOT_RISE = "loss_does_not_rise"
#: Share of the images at which an honest network's loss may fail to rise.
FLAT_LOSS_SHARE = 0.1
_LOSS_DOES_NOT_RISE_MEANING = (
    "gradients do not point uphill (catastrophic overfitting if trained by single steps): train with more steps"
)


def loss_does_not_rise(evidence: Evidence) -> Finding:
    """Warn if loss and margin of more than `ZERO_GRADIENT_SHARE` of the images rise nowhere on the ray."""
    ray, clean = evidence.ray, evidence.clean
    flat = ((ray.loss <= clean.loss) & (ray.margin <= clean.margin)).any(0)
    count = int(flat.sum())
    share, p_value = count / max(evidence.size, 1), binomial_tail(count, evidence.size, FLAT_LOSS_SHARE)
    fact = f"{100 * share:.0f} % of {evidence.size} inputs"
    return Finding(
        _LOSS_DOES_NOT_RISE,
        p_value < SIGNIFICANCE_LEVEL,
        share,
        FLAT_LOSS_SHARE,
        p_value,
        fact,
        _LOSS_DOES_NOT_RISE_MEANING,
    )


_TRAINING_ATTACK_TOO_WEAK = "training_attack_too_weak"
#: Share of what the attack of training leaves that many steps may break of an honest network.
BROKEN_SHARE = 0.5
_TRAINING_ATTACK_TOO_WEAK_MEANING = (
    "training overfitted to its own attack (collapse of single-step training): raise attack.num_steps"
)


def training_attack_too_weak(evidence: Evidence) -> Finding | None:
    """Warn if many steps break more than `ZERO_GRADIENT_SHARE` of the images that survive the training attack."""
    if evidence.left is None or evidence.many is None:
        return None
    left, broken = int(evidence.left.sum()), int((evidence.left & evidence.many).sum())
    p_value = binomial_tail(broken, left, BROKEN_SHARE)
    fact = f"many steps break {broken} of the {left} inputs of {evidence.size} that the training's own attack leaves"
    return Finding(
        _TRAINING_ATTACK_TOO_WEAK,
        p_value < SIGNIFICANCE_LEVEL,
        broken / max(left, 1),
        BROKEN_SHARE,
        p_value,
        fact,
        _TRAINING_ATTACK_TOO_WEAK_MEANING,
    )


_RANDOM_ANSWERS = "random_answers"
_RANDOM_ANSWERS_MEANING = (
    "the network draws at random by itself: the next answer is another; an attack has to average over draws"
)


def random_answers(evidence: Evidence) -> Finding:
    """Warn if an answer to the same images was another one; no chance is in it but the network's."""
    warned = evidence.spread > TOLERANCE
    fact = f"answers to the same images differ by {evidence.spread:.2g}"
    return Finding(
        _RANDOM_ANSWERS, warned, evidence.spread, TOLERANCE, 0.0 if warned else 1.0, fact, _RANDOM_ANSWERS_MEANING
    )
