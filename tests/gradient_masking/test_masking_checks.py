"""Each check against numbers by hand: when it warns, and how often by chance."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from distcond.gradient_masking.checks import (
    SIGNIFICANCE_LEVEL,
    binomial_tail,
    black_box_stronger,
    larger_epsilon_does_not_help,
    loss_does_not_rise,
    mcnemar_p_value,
    more_steps_do_not_help,
    random_answers,
    single_step_stronger,
    training_attack_too_weak,
    zero_gradients,
)
from distcond.gradient_masking.diagnose import CHECKS
from distcond.gradient_masking.evidence import UNBOUNDED, Evidence, LossTrace

N = 64
NAMES = [
    "zero_gradients", "single_step_stronger", "black_box_stronger", "more_steps_do_not_help",
    "larger_epsilon_does_not_help", "loss_does_not_rise", "training_attack_too_weak", "random_answers",
]  # fmt: skip


def seen(places: list[float], wrong: list[int]) -> LossTrace:
    """At each point one loss for all examples; the first `wrong` examples are misclassified."""
    values = torch.tensor(places)[:, None].expand(-1, N)
    return LossTrace(values, values, torch.stack([torch.arange(N) < count for count in wrong]))


def honest(**other: Any) -> Evidence:
    """Loss that rises along ray and path; every attack breaks the same half of the examples."""
    found = Evidence(
        gradient=torch.ones(N),
        clean=seen([0.1], [0]),
        ray=seen([0.2, 0.3, 0.4, 0.5], [8, 16, 24, 32]),
        path=seen([0.15, 0.3, 0.4, 0.5, 0.6], [0, 8, 16, 24, 32]),
        unbounded=seen([0.2, 9.0], [32, N]),
        black_box=torch.arange(N) < 16,
        num_examples=N,
        classes=10,
        survivors=~first(28),
        broken_by_many=first(32),
    )
    return found._replace(**other)


def first(count: int) -> Tensor:
    return torch.arange(N) < count


def test_unmasked_networks_give_no_warning() -> None:
    findings = [check(honest()) for check in CHECKS]
    assert [finding.name for finding in findings if finding] == NAMES
    assert not any(finding.warned for finding in findings if finding)


@pytest.mark.parametrize(("count", "warned"), [(0, False), (3, False), (10, False), (11, True), (N, True)])
def test_many_zero_gradients_are_faults_few_are_not(count: int, warned: bool) -> None:
    # A gradient below the smallest normal number counts as none: a sign of it is luck.
    gradient = torch.where(first(count), 1e-40, 1e-30)
    finding = zero_gradients(honest(gradient=gradient))
    assert (finding.warned, finding.value) == (warned, count / N)
    assert finding.fact == f"{100 * count / N:.0f} % of 64 inputs"


@pytest.mark.parametrize(("alone", "warned"), [(0, False), (9, False), (10, True)])
def test_single_step_counts_as_stronger_beyond_luck(alone: int, warned: bool) -> None:
    evidence = honest(ray=seen([0.2, 0.3, 0.4, 0.5], [0, 0, 0, 32 + alone]))
    assert single_step_stronger(evidence).warned == warned
    finding = black_box_stronger(honest(black_box=first(32 + alone)))
    assert finding is not None
    assert finding.warned == warned


def test_examples_broken_by_others_count_against() -> None:
    path = honest().path._replace(wrong=torch.stack([~first(N - 12)]))
    assert single_step_stronger(honest(path=path, ray=seen([1.0], [14]))).value == 14
    assert not single_step_stronger(honest(path=path, ray=seen([1.0], [14]))).warned
    # Every iterate counts, not the last alone.
    back = honest().path._replace(wrong=torch.stack([first(0), first(40), first(0)]))
    assert not single_step_stronger(honest(path=back, ray=seen([1.0], [40]))).warned


def test_stuck_steps_warn() -> None:
    flat = seen([0.4, 0.4, 0.4, 0.4, 0.4], [0] * 5)
    assert more_steps_do_not_help(honest(path=flat)).warned
    # The last quarters may lie below the first ones, but one place above them is enough.
    assert not more_steps_do_not_help(honest(path=seen([0.1, 0.5, 0.2, 0.6, 0.1], [0] * 5))).warned
    # Where the loss has no digits left, the margin still says that it rises.
    assert not more_steps_do_not_help(honest(path=honest().path._replace(loss=torch.zeros(5, N)))).warned


def test_a_shorter_step_that_breaks_more() -> None:
    bent = seen([0.9, 0.9, 0.5, 0.2], [4, 30, 20, 2])
    finding = larger_epsilon_does_not_help(honest(ray=bent))
    assert finding.warned
    assert finding.fact == "28 of 64 inputs broken only by 0.5 epsilon, 0 only by full epsilon"
    assert finding.p_value == pytest.approx(4 * 0.5**28)


@pytest.mark.parametrize(("alive", "warned"), [(0, False), (6, False), (20, True)])
def test_survivors_of_an_attack_without_bound(alive: int, warned: bool) -> None:
    finding = larger_epsilon_does_not_help(honest(unbounded=seen([0.2, 9.0], [0, N - alive])))
    assert finding.warned == warned
    if warned:
        assert finding.fact == f"{100 * alive / N:.0f} % of 64 inputs survive epsilon {UNBOUNDED:g}"


@pytest.mark.parametrize(("count", "warned"), [(0, False), (6, False), (20, True)])
def test_a_loss_that_falls_along_its_own_gradient(count: int, warned: bool) -> None:
    ray = honest().ray
    fallen = ray._replace(loss=torch.where(first(count), 0.05, ray.loss), margin=torch.where(first(count), 0.1, 0.3))
    assert loss_does_not_rise(honest(ray=fallen)).warned == warned
    # A sure network's loss has no digits left: its margin rises all the same.
    assert not loss_does_not_rise(honest(ray=ray._replace(loss=torch.zeros(4, N)))).warned


def test_skipped_evidence_gives_no_finding() -> None:
    evidence = honest(unbounded=None, black_box=None)
    assert black_box_stronger(evidence) is None
    assert not larger_epsilon_does_not_help(evidence).warned


def test_tails_by_hand() -> None:
    assert binomial_tail(0, 5, 0.3) == pytest.approx(1)
    assert binomial_tail(5, 5, 0.5) == pytest.approx(1 / 32)
    assert binomial_tail(1, 2, 0.1) == pytest.approx(0.19)
    assert mcnemar_p_value(0, 0) == 1
    assert mcnemar_p_value(10, 0) == pytest.approx(2**-10)
    assert mcnemar_p_value(8, 2) == pytest.approx(56 / 1024)


@pytest.mark.parametrize("pairs", [5, 20, 64])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_false_warnings_are_as_rare_as_stated(pairs: int, share: float) -> None:
    # Exact, no sampling: the probability of all counts that would warn.
    counts = [count for count in range(pairs + 1) if binomial_tail(count, pairs, share) < SIGNIFICANCE_LEVEL]
    chance = sum(math.comb(pairs, k) * share**k * (1 - share) ** (pairs - k) for k in counts)
    assert chance <= SIGNIFICANCE_LEVEL


@pytest.mark.parametrize(("left", "broken", "warned"), [(40, 36, True), (40, 22, False), (8, 8, False), (0, 0, False)])
def test_training_attack_is_compared_with_many_steps(left: int, broken: int, warned: bool) -> None:
    finding = training_attack_too_weak(honest(survivors=first(left), broken_by_many=first(broken)))
    assert finding is not None and finding.warned == warned
    assert training_attack_too_weak(honest(survivors=None, broken_by_many=None)) is None


def test_different_outputs_are_random() -> None:
    assert [random_answers(honest(spread=spread)).warned for spread in (0.0, 1e-6, 1e-2)] == [False, False, True]
