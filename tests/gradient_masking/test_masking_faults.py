"""Planted faults give warnings, unmasked networks do not: real digits, networks trained here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distcond.attacks.pgd import pgd
from distcond.config.schema import AttackConfig
from distcond.gradient_masking.diagnose import Diagnosis, diagnose
from distcond.gradient_masking.evidence import FULL, PROBE
from support.groups import quick
from support.installed import needs

needs("sklearn", "the digits come with scikit-learn")

Logits = Callable[[Tensor], Tensor]


def few(number: int) -> list[Any]:
    """Seeds for `pytest.mark.parametrize`: all but the first are marked `cluster`, as each trains another network."""
    return quick(0, of=range(number))


@cache
def digits(split: str) -> tuple[Tensor, Tensor]:
    from distcond.data.datasets.digits import DATASET

    arrays = DATASET.read("")[split]
    return torch.from_numpy(arrays.images).permute(0, 3, 1, 2).float().div(255).contiguous(), torch.from_numpy(
        arrays.labels
    )


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 10))


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def batches(seed: int, epochs: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Images, labels and random starts."""
    source, (x, y) = torch.Generator().manual_seed(seed), digits("train")
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=source).split(64):
            yield x[rows], y[rows], torch.rand(x[rows].shape, generator=source) * 2 - 1


@cache
def trained(make: Callable[[], nn.Module], seed: int, epochs: int, attack: AttackConfig | None) -> nn.Module:
    """A network trained on attacked digits, or on the digits themselves."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = make()
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for x, y, unit in batches(seed, epochs):
        moved = x if attack is None else pgd(lambda at, step: net(at), x, y, attack, unit)
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(moved), y).backward()
        optimiser.step()
    return net.eval().requires_grad_(False)


EPSILON = 0.1
ATTACK = AttackConfig(epsilon=EPSILON, step_size=EPSILON / 4, num_steps=20)


def robust(seed: int = 0) -> nn.Module:
    """Adversarially trained with several steps (Madry et al. 2018)."""
    return trained(perceptron, seed, 8, AttackConfig(epsilon=EPSILON, step_size=EPSILON / 3, num_steps=4))


def both(logits: Logits, attack: AttackConfig = ATTACK) -> tuple[Diagnosis, Diagnosis]:
    """Warnings of the training probe and of the full depth."""
    x, y = digits("test")
    return diagnose(logits, x[:64], y[:64], attack, 0, PROBE), diagnose(logits, x[:128], y[:128], attack, 0, FULL)


def names(report: Diagnosis) -> set[str]:
    return {finding.name for finding in report.warned}


@pytest.mark.parametrize("levels", [4, 16])
def test_quantised_inputs(levels: int) -> None:
    net = robust()
    probe, full = both(lambda x: net((x * levels).round() / levels))
    assert names(probe) == {"zero_gradients", "more_steps_do_not_help", "loss_does_not_rise"}
    assert names(full) >= names(probe) | {"larger_epsilon_does_not_help"}
    assert levels == 4 or "black_box_stronger" in names(full)
    assert "zero_gradients (100 % of 6" in "".join(f"{name} ({fact})" for name, fact in probe.facts.items())


SATURATED: dict[str, Callable[[Tensor], Tensor]] = {
    "scaled logits": lambda logits: logits * 1e4,
    "saturated sigmoid": lambda logits: torch.sigmoid((logits - logits.amax(1, keepdim=True) + 0.5) * 1e3),
}


@pytest.mark.parametrize("how", SATURATED)
def test_a_scale_that_saturates(how: str) -> None:
    net = robust()
    probe, full = both(lambda x: SATURATED[how](net(x)))
    assert names(probe) == {"zero_gradients", "more_steps_do_not_help", "loss_does_not_rise"}
    assert names(full) >= names(probe) | {"larger_epsilon_does_not_help"}
    assert how != "scaled logits" or "black_box_stronger" in names(full)


def test_scales_without_saturation_give_no_warning() -> None:
    net = robust()
    assert [names(report) for report in both(lambda x: net(x) * 8)] == [set(), set()]


def test_catastrophic_overfitting_to_a_single_step() -> None:
    epsilon = 0.4
    one_step = AttackConfig(epsilon=epsilon, step_size=epsilon, num_steps=1, random_start=False)
    many = AttackConfig(epsilon=epsilon, step_size=epsilon / 4, num_steps=20)
    net = trained(convolutions, 1, 30, one_step)
    x, y = digits("test")
    source = torch.Generator().manual_seed(0)
    unit = torch.rand(x.shape, generator=source) * 2 - 1
    right = net(x).argmax(1) == y
    under = [pgd(lambda at, step: net(at), x, y, attack, unit) for attack in (one_step, many)]
    single, iterated = (float((net(moved).argmax(1) == y)[right].float().mean()) for moved in under)
    assert single > 0.5, "it stands up to the step it was trained with"
    assert iterated < 0.05, "and to nothing else: it did collapse"
    for report in both(net, many):
        assert "loss_does_not_rise" in names(report)


def held_against(net: Logits, learnt: AttackConfig, attack: AttackConfig, look: int = 0) -> list[set[str]]:
    """Warnings of the probe and of the full depth, given the training attack."""
    (x, y), source = digits("test"), torch.Generator().manual_seed(look)
    rows = torch.randperm(len(x), generator=source)
    sizes = ((64, PROBE), (128, FULL))
    return [names(diagnose(net, x[rows[:n]], y[rows[:n]], attack, look, depth, learnt)) for n, depth in sizes]


@pytest.mark.parametrize("seed", few(3))
def test_collapse_of_single_step_training_warns(seed: int) -> None:
    learnt = AttackConfig(epsilon=0.3, step_size=0.3, num_steps=1, random_start=False)
    many = AttackConfig(epsilon=0.3, step_size=0.075, num_steps=20)
    net = trained(convolutions, seed, 30, learnt)
    x, y = digits("test")
    own, strong = (
        float((net(pgd(lambda at, step: net(at), x, y, attack, torch.zeros_like(x))).argmax(1) == y).float().mean())
        for attack in (learnt, many)
    )
    collapsed = own > 0.3 > 3 * strong
    assert [("training_attack_too_weak" in found) for found in held_against(net, learnt, many)] == [collapsed] * 2


def resized(x: Tensor, source: torch.Generator) -> Tensor:
    side = int(torch.randint(7, 10, (1,), generator=source))
    small = nn.functional.interpolate(x, size=(side, side), mode="bilinear")
    return nn.functional.interpolate(small, size=(8, 8), mode="bilinear")


def contrasted(x: Tensor, source: torch.Generator) -> Tensor:
    return x * (0.9 + 0.2 * torch.rand(len(x), 1, 1, 1, generator=source))


@pytest.mark.parametrize("change", [resized, contrasted])
@pytest.mark.parametrize("look", range(3))
def test_random_inputs_warn_at_every_depth(change: Callable[[Tensor, torch.Generator], Tensor], look: int) -> None:
    net, source = robust(), torch.Generator().manual_seed(look)
    probe, full = both(lambda x: net(change(x, source)))
    assert "random_answers" in names(full)
    assert change is resized or "random_answers" in names(probe)


@pytest.mark.parametrize("seed", few(5))
def test_many_step_training_gives_no_warning(seed: int) -> None:
    learnt = AttackConfig(epsilon=EPSILON, step_size=EPSILON / 3, num_steps=4)
    found = [held_against(robust(seed), learnt, ATTACK, 5 * look + seed) for look in range(4)]
    assert found == [[set(), set()]] * 4


def test_an_attack_too_weak_for_its_epsilon() -> None:
    net = robust()
    _, full = both(net, AttackConfig(epsilon=EPSILON, step_size=EPSILON / 80, num_steps=20))
    assert names(full) == {"single_step_stronger", "black_box_stronger"}


@pytest.mark.parametrize("seed", few(5))
def test_a_robust_network_gives_no_warning(seed: int) -> None:
    net = robust(seed)
    x, y = digits("test")
    assert (net(x).argmax(1) == y).float().mean() > 0.85
    for attack in (ATTACK, AttackConfig(epsilon=0.2, step_size=0.02, num_steps=20), AttackConfig(norm="L2", epsilon=1.0,
                   step_size=0.2, num_steps=10)):  # fmt: skip
        assert [names(report) for report in both(net, attack)] == [set(), set()]


@pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("seed", few(3))
def test_a_standard_network_gives_no_warning(seed: int, epsilon: float) -> None:
    net = trained(perceptron, seed, 15, None)
    attack = AttackConfig(epsilon=epsilon, step_size=epsilon / 4, num_steps=10)
    assert [names(report) for report in both(net, attack)] == [set(), set()]


@pytest.mark.parametrize("seed", few(2))
def test_single_step_training_without_collapse_gives_no_warning(seed: int) -> None:
    one_step = AttackConfig(epsilon=EPSILON, step_size=EPSILON, num_steps=1, random_start=False)
    assert [names(report) for report in both(trained(perceptron, seed, 8, one_step))] == [set(), set()]


@pytest.mark.parametrize("seed", few(5))
def test_no_false_alarm_in_many_small_samples(seed: int) -> None:
    # Different examples and starts each time: 12 looks of six checks at a level of 1e-3 at each of five networks.
    x, y = digits("test")
    rows = torch.Generator().manual_seed(seed)
    alarms = 0
    for look in range(12):
        some = torch.randperm(len(x), generator=rows)[:32]
        alarms += bool(diagnose(robust(seed), x[some], y[some], ATTACK, 5 * look + seed, PROBE).warned)
    assert alarms == 0
