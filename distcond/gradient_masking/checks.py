"""The checks for masked gradients. Each gives one `Finding` on the evidence, with an exact significance test.

Signs of masking by Athalye et al. (2018, sections 2 and 3.1) and Carlini et al. (2019, section 4): gradients vanish or
are shattered; one step, black-box search or a shorter step beats the many-step attack; more steps or a larger epsilon
do not help; examples survive an unbounded attack; outputs are random. Signs of catastrophic overfitting (Wong et al.
2020; Kim et al. 2021; Andriushchenko and Flammarion 2020): the loss does not rise along its gradient, and many steps
break what the training attack does not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from distcond.attacks.randomness import TOLERANCE
from distcond.gradient_masking.evidence import EPSILON_SHARES, UNBOUNDED, Evidence

#: Each check warns about an unmasked network at most with this probability.
SIGNIFICANCE_LEVEL = 1e-3
#: Largest shares of examples of an unmasked network: with a vanishing float32 gradient; whose attack stops gaining
#: early; surviving an attack that can reach a grey image (chance level of ten classes); whose loss does not rise along
#: the gradient; surviving the training attack but broken by many steps.
ZERO_GRADIENT_SHARE = 0.05
STUCK_SHARE = 0.5
SURVIVOR_SHARE = 0.1
FLAT_LOSS_SHARE = 0.1
BROKEN_SHARE = 0.5


class Finding(NamedTuple):
    """The result of one check for one network at one operating point.

    Attributes:
        name: name of the warning, a stable snake_case identifier.
        warned: whether the check warns: `p_value` is below `SIGNIFICANCE_LEVEL`.
        value: the observed share or count.
        threshold: the largest value of an unmasked network, or for paired tests the count of the other attack.
        p_value: probability of such a value, or a larger one, for a network at the threshold.
        fact: the observation, for people: "37 % of 64 inputs".
        meaning: what it means and what to do, one line.
    """

    name: str
    warned: bool
    value: float
    threshold: float
    p_value: float
    fact: str
    meaning: str


def binomial_tail(count: int, trials: int, share: float) -> float:
    """P(X >= count) for X ~ Binomial(trials, share), `share` in [0, 1]."""
    terms = (math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(count, trials + 1))
    return min(1.0, math.fsum(terms))


def mcnemar_p_value(only_first: int, only_second: int) -> float:
    """One-sided exact McNemar test that the first attack is stronger, from examples that only one of two breaks."""
    return binomial_tail(only_first, only_first + only_second, 0.5)


def zero_gradients(evidence: Evidence) -> Finding:
    """Warn if more than `ZERO_GRADIENT_SHARE` of the examples have no gradient (below the smallest normal float32)."""
    count = int((evidence.gradient < torch.finfo(torch.float32).tiny).sum())
    meaning = (
        "the loss has no gradient there (rounding, saturation): use attack=cw or square, or attack without that part"
    )
    return _share_finding("zero_gradients", count, evidence.size, ZERO_GRADIENT_SHARE, meaning)


def single_step_stronger(evidence: Evidence) -> Finding:
    """Warn if only FGSM breaks more examples than only the many-step attack (paired test)."""
    single_step, many_steps = evidence.ray.wrong[-1], evidence.path.wrong.any(0)
    only_single, only_many = _count_only(single_step, many_steps), _count_only(many_steps, single_step)
    fact = f"{only_single} of {evidence.size} inputs broken only by one step, {only_many} only by many"
    meaning = "the many-step attack is stuck or too weak: raise eval.attack.num_steps or step_size, try attack=apgd-ce"
    return _paired_finding("single_step_stronger", only_single, only_many, fact, meaning)


def black_box_stronger(evidence: Evidence) -> Finding | None:
    """Warn if only random search breaks more examples than only the many-step attack (paired test)."""
    if evidence.black_box is None:
        return None
    search, gradient = evidence.black_box, evidence.path.wrong.any(0)
    only_search, only_gradient = _count_only(search, gradient), _count_only(gradient, search)
    fact = f"{only_search} of {evidence.size} inputs broken only by random search, {only_gradient} only by gradients"
    meaning = "gradients mislead the attack, or it is too weak: its RA is too high, use attack=square or autoattack"
    return _paired_finding("black_box_stronger", only_search, only_gradient, fact, meaning)


def more_steps_do_not_help(evidence: Evidence) -> Finding:
    """Warn if more than `STUCK_SHARE` of the examples gain neither loss nor margin after a quarter of the steps."""
    path = evidence.path
    early = 1 + max(1, (len(path.loss) - 1) // 4)
    if early < len(path.loss):
        stuck = ~(_rises_after(path.loss, early) | _rises_after(path.margin, early))
    else:
        stuck = path.wrong[0]
    meaning = "the attack gains nothing after its start: use attack=apgd-ce or square, or change the step size"
    return _share_finding("more_steps_do_not_help", int(stuck.sum()), evidence.size, STUCK_SHARE, meaning)


def larger_epsilon_does_not_help(evidence: Evidence) -> Finding:
    """Warn if examples survive the unbounded attack, or if only a shorter step breaks more than only the full step.

    The p-value is Bonferroni-corrected for these comparisons.
    """
    findings = [_compare_shorter_step(evidence, index) for index in range(len(EPSILON_SHARES) - 1)]
    if evidence.unbounded is not None:
        findings.append(_count_unbounded_survivors(evidence.unbounded.wrong))
    worst = min(findings, key=lambda finding: finding.p_value)
    p_value = min(1.0, worst.p_value * len(findings))
    meaning = "the attack does not use its epsilon (catastrophic overfitting, stuck gradients): use attack=autoattack"
    return worst._replace(p_value=p_value, warned=p_value < SIGNIFICANCE_LEVEL, meaning=meaning)


def loss_does_not_rise(evidence: Evidence) -> Finding:
    """Warn if loss and margin of more than `FLAT_LOSS_SHARE` of the examples fail to rise along the gradient."""
    ray, clean = evidence.ray, evidence.clean
    flat = ((ray.loss <= clean.loss) & (ray.margin <= clean.margin)).any(0)
    meaning = "gradients do not point uphill (catastrophic overfitting of single-step training): train with more steps"
    return _share_finding("loss_does_not_rise", int(flat.sum()), evidence.size, FLAT_LOSS_SHARE, meaning)


def training_attack_too_weak(evidence: Evidence) -> Finding | None:
    """Warn if many steps break more than `BROKEN_SHARE` of the examples that survive the training attack."""
    if evidence.survivors is None or evidence.broken_by_many is None:
        return None
    survivors = int(evidence.survivors.sum())
    broken = int((evidence.survivors & evidence.broken_by_many).sum())
    fact = f"many steps break {broken} of the {survivors} (of {evidence.size}) inputs that survive the training attack"
    meaning = "training overfitted to its own attack (collapse of single-step training): raise attack.num_steps"
    return _share_finding("training_attack_too_weak", broken, survivors, BROKEN_SHARE, meaning, fact)


def random_answers(evidence: Evidence) -> Finding:
    """Warn if the outputs for the same images differ. This is deterministic: the p-value is 0 or 1."""
    warned = evidence.spread > TOLERANCE
    fact = f"outputs for the same images differ by {evidence.spread:.2g}"
    meaning = "the network is random: the next output differs; an attack has to average over draws"
    return Finding("random_answers", warned, evidence.spread, TOLERANCE, 0.0 if warned else 1.0, fact, meaning)


def _share_finding(name: str, count: int, trials: int, threshold: float, meaning: str, fact: str = "") -> Finding:
    """Test whether `count` of `trials` examples exceeds the share `threshold`."""
    share, p_value = count / max(trials, 1), binomial_tail(count, trials, threshold)
    fact = fact or f"{100 * share:.0f} % of {trials} inputs"
    return Finding(name, p_value < SIGNIFICANCE_LEVEL, share, threshold, p_value, fact, meaning)


def _paired_finding(name: str, only_first: int, only_second: int, fact: str, meaning: str) -> Finding:
    """Test whether the first of two attacks is stronger, from the examples that only one of them breaks."""
    p_value = mcnemar_p_value(only_first, only_second)
    return Finding(name, p_value < SIGNIFICANCE_LEVEL, only_first, only_second, p_value, fact, meaning)


def _compare_shorter_step(evidence: Evidence, index: int) -> Finding:
    short, full = evidence.ray.wrong[index], evidence.ray.wrong[-1]
    only_short, only_full = _count_only(short, full), _count_only(full, short)
    share = EPSILON_SHARES[index]
    fact = f"{only_short} of {evidence.size} inputs broken only by {share:g} epsilon, {only_full} only by full epsilon"
    return _paired_finding("larger_epsilon_does_not_help", only_short, only_full, fact, "")


def _count_unbounded_survivors(wrong: Tensor) -> Finding:
    survivors, size = int((~wrong.any(0)).sum()), wrong.shape[1]
    fact = f"{100 * survivors / max(size, 1):.0f} % of {size} inputs survive epsilon {UNBOUNDED:g}"
    return _share_finding("larger_epsilon_does_not_help", survivors, size, SURVIVOR_SHARE, "", fact)


def _count_only(first: Tensor, second: Tensor) -> int:
    """Examples that only the first attack breaks, from masks (N,)."""
    return int((first & ~second).sum())


def _rises_after(values: Tensor, early: int) -> Tensor:
    """(N,) bool: whether the maximum of values (T, N) comes after the first `early` points."""
    return values[early:].amax(0) > values[:early].amax(0)
