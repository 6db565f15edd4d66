"""Attacks on random networks: single predictions prove nothing, so the loss decides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from distcond.attacks.attack import Attack, is_deterministic
from distcond.attacks.randomness import is_random, output_spread
from distcond.attacks.starts import example_seeds
from distcond.config.schema import AttackConfig
from distcond.errors import ConfigError
from distcond.evaluation.cascade import adaptive, transfer
from distcond.evaluation.networks import QueryCounter
from distcond.registry import lookup, table
from support.installed import needs

needs("pyautoattack", "it is an optional extra: pip install 'distcond[attacks]'")

N = 6
X, Y = torch.full((N, 3, 4, 4), 0.5), torch.zeros(N, dtype=torch.int64)
CONFIG = AttackConfig(epsilon=0.1, step_size=0.02, num_steps=4, restarts=3)
GRADIENT = ["pgd", "cw", "apgd-ce", "apgd-dlr", "apgd-t"]
NAMES = [*GRADIENT, "square"]
SEEDS = example_seeds(0, range(N))


def honest(x: Tensor) -> Tensor:
    """Right by a margin that falls as the image gets brighter, and right anywhere in the ball."""
    others = x.flatten(1).mean(1)[:, None] * torch.arange(1, 5) / 20
    return torch.cat([torch.full((len(x), 1), 1.0), others], 1)


def unlucky(x: Tensor) -> Tensor:
    """The same network at draws that are all wrong."""
    return honest(x) - torch.tensor([2.0, 0, 0, 0, 0])


def attack(name: str) -> Attack:
    found = lookup("attack", name)
    assert isinstance(found, Attack)
    return found


def settled(found: Attack) -> AttackConfig:
    return found.settle(CONFIG, frozenset({"num_steps", "restarts"}))


def asked(network: QueryCounter, name: str) -> int:
    found = attack(name)
    assert found.run is not None
    found.run(network, X, Y, settled(found), SEEDS)
    return network.rows


@pytest.mark.parametrize("name", GRADIENT)
def test_only_deterministic_networks_stop_early(name: str) -> None:
    still, moving = QueryCounter(unlucky), QueryCounter(unlucky, random=True)
    assert (is_deterministic(still), is_deterministic(moving), is_deterministic(unlucky)) == (True, False, True)
    # Of a network that stands still the image itself is looked at, too; apgd-t does so of any, for its targets.
    image = 0 if name == "apgd-t" else N
    assert asked(still, name) < asked(moving, name) == asked(QueryCounter(honest), name) - image


def test_square_counts_every_draw_of_every_query() -> None:
    queries, restarts = CONFIG.num_steps, CONFIG.restarts
    for draws in (10, 3):
        network = QueryCounter(unlucky, random=True, draws=draws)
        assert asked(network, "square") == restarts * (1 + queries + 1) * draws * N
    # Unlucky from the first answer on: of a network that stands still the library asks no more.
    assert asked(QueryCounter(unlucky), "square") == N


class Noisy:
    """Two classes; the mean pixel decides, under noise so large that single answers say next to nothing."""

    def __init__(self, says: bool) -> None:
        self.noise = torch.Generator().manual_seed(0)
        if says:
            self.random = True

    def __call__(self, x: Tensor) -> Tensor:
        right = 0.3 - 2 * (x - 0.5).flatten(1).mean(1) + 0.3 * torch.randn(len(x), generator=self.noise)
        return torch.stack([right, torch.zeros_like(right)], 1)


@pytest.mark.parametrize("says", [True, False])
def test_square_ranks_by_the_mean_loss(says: bool) -> None:
    config = replace(settled(attack("square")), num_steps=60, restarts=2)
    moved = attack("square").run(Noisy(says), X, Y, config, SEEDS)  # type: ignore[misc]
    # A search that a lucky answer ends stays near its start, where the mean is 0.
    assert (moved - X).mean() > 0.05


@pytest.mark.parametrize("network", [QueryCounter(honest, random=True), Noisy(True), Noisy(False)])
def test_fab_refuses_random_networks(network: Any) -> None:
    with pytest.raises(ConfigError, match=r"attack=fab-t: .*random.*autoattack-rand"):
        attack("fab-t").run(network, X, Y, settled(attack("fab-t")), SEEDS)  # type: ignore[misc]


def test_the_standard_ensemble_refuses_random_networks() -> None:
    refused = [name for name, found in table("attack").items() if found.refuses_random]
    assert sorted(refused) == ["autoattack", "fab-t"]
    found = attack("autoattack")
    with pytest.raises(ConfigError, match=r"fab-t: .*autoattack-rand"):
        adaptive(QueryCounter(unlucky, random=True), honest, X, Y, Y == 0, found, settled(found), SEEDS)


def test_randomness_is_tested_if_undeclared() -> None:
    assert [is_random(Noisy(says), X, Y) for says in (True, False)] == [True, True]
    assert not is_random(honest, X, Y)
    assert not is_random(QueryCounter(honest), X, Y)
    assert output_spread(Noisy(False), X) > 0.01 and output_spread(honest, X) == 0


@pytest.mark.parametrize("name", NAMES)
def test_judge_sees_every_restart_whatever_the_attacker_saw(name: str) -> None:
    seen: list[Tensor] = []
    queries: list[Tensor] = []

    def judge(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return honest(x)

    def network(x: Tensor) -> Tensor:
        queries.append(x.detach().clone())
        return unlucky(x)

    found = adaptive(
        QueryCounter(network, random=True), judge, X, Y, Y == 0, attack(name), settled(attack(name)), SEEDS
    )
    assert found.tolist() == [-1] * N
    assert len(seen) == CONFIG.restarts
    one = len(queries) // CONFIG.restarts
    assert not all(map(torch.equal, queries[:one], queries[one:])), "each restart has a start of its own"
    seen.clear()
    adaptive(QueryCounter(unlucky), judge, X, Y, Y == 0, attack(name), settled(attack(name)), SEEDS)
    assert len(seen) == 1


def test_a_restart_judged_broken_is_the_last() -> None:
    asked_about: list[int] = []

    def judge(x: Tensor) -> Tensor:
        asked_about.append(len(x))
        return torch.where((torch.arange(len(x)) < 2)[:, None], unlucky(x), honest(x))

    network, pgd = QueryCounter(unlucky, random=True), attack("pgd")
    found = adaptive(network, judge, X, Y, Y == 0, pgd, CONFIG, SEEDS)
    assert asked_about == [6, 4, 2]
    assert found.tolist() == [1] * N
    moved = transfer(network, {0.5: honest, 1.0: judge}, X, Y, {0.5: Y == 0, 1.0: Y == 0}, pgd, CONFIG, SEEDS)
    assert [(values == -1).sum().item() for values in moved.values()] == [N, 0]
    assert asked_about == [6, 4, 2] * 2


@pytest.mark.parametrize("name", NAMES)
def test_one_restart_is_the_first_of_several(name: str) -> None:
    seen: list[Tensor] = []

    def judge(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return honest(x)

    for restarts in (1, 3):
        config = replace(settled(attack(name)), restarts=restarts)
        adaptive(QueryCounter(unlucky, random=True), judge, X, Y, Y == 0, attack(name), config, SEEDS)
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[1])
