"""Properties of every attack of the package, including those of libraries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from distcond.attacks.attack import Attack
from distcond.attacks.pgd import pgd
from distcond.attacks.projection import perturbation_norms
from distcond.attacks.starts import Seeds, example_seeds, uniform
from distcond.config.schema import AttackConfig
from distcond.registry import table
from support.installed import needs

needs("pyautoattack", "it is an optional extra: pip install 'distcond[attacks]'")

ATTACKS = table("attack")
SINGLE = {name: attack for name, attack in ATTACKS.items() if attack.run is not None}
QUICK = settings(max_examples=6, deadline=None, derandomize=True, database=None)
BALLS = st.tuples(st.sampled_from(["Linf", "L2"]), st.sampled_from([0.0, 0.02, 0.1, 1.0]), st.integers(0, 50))


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 6))
    return net.requires_grad_(False)


NET = network()


def seeds(n: int, seed: int = 3) -> Seeds:
    return example_seeds(seed, range(n))


def images(seed: int, n: int = 5) -> Tensor:
    """Some pixels on the edge of the box."""
    return (1.4 * torch.rand((n, 3, 8, 8), generator=torch.Generator().manual_seed(seed)) - 0.2).clamp(0, 1)


def configured(attack: Attack, norm: str, epsilon: float, num_steps: int = 3) -> AttackConfig:
    config = AttackConfig(norm=norm, epsilon=epsilon, step_size=epsilon / 2, num_steps=num_steps)
    return attack.settle(config, frozenset({"num_steps"}))


def run(attack: Attack, x: Tensor, y: Tensor, config: AttackConfig, seed: int = 3) -> Tensor:
    assert attack.run is not None
    return attack.run(NET, x, y, config, seeds(len(x), seed))


@pytest.mark.parametrize("name", SINGLE)
@QUICK
@given(ball=BALLS)
def test_results_stay_within_epsilon_and_pixel_range(name: str, ball: tuple[str, float, int]) -> None:
    norm, epsilon, seed = ball
    x, attack = images(seed), SINGLE[name]
    before = x.clone()
    moved = run(attack, x, NET(x).argmax(1), configured(attack, norm, epsilon), seed)
    assert moved.shape == x.shape
    assert not moved.requires_grad
    assert (perturbation_norms(moved - x, norm) <= epsilon + 1e-6).all()
    assert ((moved >= 0) & (moved <= 1)).all()
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_same_seed_same_images_and_global_generator_unused(name: str, norm: str) -> None:
    x, attack = images(1), SINGLE[name]
    y, config = NET(x).argmax(1), configured(attack, norm, 0.02)
    torch.manual_seed(11)
    first, state = run(attack, x, y, config), torch.get_rng_state()
    torch.manual_seed(12)
    torch.rand(3)
    assert torch.equal(first, run(attack, x, y, config))
    torch.manual_seed(11)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", SINGLE)
def test_breakable_images_are_broken_even_alone(name: str) -> None:
    x, attack = images(2, 8), SINGLE[name]
    y = NET(x).argmax(1)
    config = configured(attack, "Linf", 0.3, 200 if name == "square" else 10)
    assert (NET(run(attack, x, y, config)).argmax(1) != y).sum() >= 6
    assert run(attack, x[:1], y[:1], config).shape == (1, 3, 8, 8)


@pytest.mark.parametrize("name", ["pgd", "cw", "apgd-ce", "apgd-dlr", "apgd-t"])
def test_an_unbroken_image_comes_back_at_highest_loss(name: str) -> None:
    x, attack = images(4), SINGLE[name]
    y, config = NET(x).argmax(1), configured(SINGLE[name], "Linf", 0.002)
    moved = run(attack, x, y, config)
    still_right = NET(moved).argmax(1) == y
    assert still_right.any()
    assert (perturbation_norms(moved - x, "Linf")[still_right] > 0).all()
    loss = nn.functional.cross_entropy
    after, before = (loss(NET(at), y, reduction="none")[still_right] for at in (moved, x))
    assert (after > before).float().mean() > 0.5


def only_wrong_at(clean: Tensor, n: int = 6) -> Any:
    """A network that errs at the images `clean` alone: whatever is moved gets the right answer, which is 0."""

    def logits(x: Tensor) -> Tensor:
        away = (x[:, None] - clean[None]).flatten(2).abs().amax(2).amin(1)
        near = (away < 1e-4).float() * 2 - 1 + 0 * x.flatten(1).sum(1)
        return torch.stack([-near, near, *[-2 - near.abs() * k for k in range(n - 2)]], 1)

    return logits


@pytest.mark.parametrize("name", sorted(set(SINGLE) - {"pgd-last"}))
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_misclassified_images_stay_wrong(name: str, norm: str) -> None:
    x, y = images(7, 4), torch.zeros(4, dtype=torch.int64)
    network = only_wrong_at(x)
    assert (network(x).argmax(1) != y).all()
    assert (network(x + 0.001).argmax(1) == y).all()
    config = replace(configured(SINGLE[name], norm, 0.1), restarts=2)
    moved = SINGLE[name].run(network, x, y, config, seeds(4))  # type: ignore[misc]
    assert (network(moved).argmax(1) != y).all()


@pytest.mark.parametrize("name", ["fgsm", "pgd", "cw", "apgd-ce", "apgd-dlr"])
@QUICK
@given(seed=st.integers(0, 50))
def test_the_loss_is_never_lower_than_without_attack(name: str, seed: int) -> None:
    # A hill with its top at the image: every other point of the ball is lower.
    x, y = images(seed, 4), torch.zeros(4, dtype=torch.int64)

    def logits(at: Tensor) -> Tensor:
        away = (at - x[: len(at)]).flatten(1).abs().mean(1)
        return torch.stack([2 + away, 1 - away, *[0 * away - k for k in range(4)]], 1)

    moved = SINGLE[name].run(logits, x, y, configured(SINGLE[name], "Linf", 0.1), seeds(4, seed))  # type: ignore[misc]
    loss = nn.functional.cross_entropy
    assert (loss(logits(moved), y, reduction="none") >= loss(logits(x), y, reduction="none") - 1e-6).all()


def test_a_restart_never_loses_what_was_broken() -> None:
    x = images(5, 40)
    y, attack = NET(x).argmax(1), SINGLE["pgd"]
    config = AttackConfig(epsilon=0.03, step_size=0.01, num_steps=1)
    one, five = (NET(run(attack, x, y, replace(config, restarts=n))).argmax(1) != y for n in (1, 5))
    assert 0 < one.sum() < five.sum()
    assert (five | ~one).all()


def test_the_best_iterate_counts_and_not_the_last() -> None:
    # One pixel decides: wrong where it is close to 0.5. The first step comes to 0.52, the second jumps beyond, to 0.24.
    def logits(x: Tensor) -> Tensor:
        away = (x[:, 0, 0, 0] - 0.5).abs() - 0.05
        return torch.stack([away, torch.zeros_like(away)], 1)

    x, y = torch.full((1, 1, 1, 1), 0.8), torch.tensor([0])
    config = AttackConfig(epsilon=0.6, step_size=0.28, num_steps=2, random_start=False)
    moved = SINGLE["pgd"].run(logits, x, y, config, seeds(1))  # type: ignore[misc]
    assert moved.item() == pytest.approx(0.52)
    moved = SINGLE["pgd-last"].run(logits, x, y, config, seeds(1))  # type: ignore[misc]
    assert moved.item() == pytest.approx(0.24)


def test_only_the_last_iterate_of_pgd_last_counts() -> None:
    x = images(5, 40)
    y = NET(x).argmax(1)
    config = AttackConfig(epsilon=0.03, step_size=0.02, num_steps=3)

    def last(restart: int) -> Tensor:
        return pgd(lambda at, step: NET(at), x, y, config, uniform(seeds(40) + restart, x))

    assert torch.equal(run(SINGLE["pgd-last"], x, y, config), last(0))
    broken = [NET(run(SINGLE["pgd-last"], x, y, replace(config, restarts=n))).argmax(1) != y for n in (1, 3)]
    assert torch.equal(broken[1], torch.stack([NET(last(restart)).argmax(1) != y for restart in range(3)]).any(0))
    best = NET(run(SINGLE["pgd"], x, y, config)).argmax(1) != y
    assert (best | ~broken[0]).all()


class OnlyBroken:
    """A network whose own answers are counted: an attack may stop at the first wrong one."""

    break_only = True

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        out: Tensor = NET(x)
        return out


@pytest.mark.parametrize("name", ["pgd", "pgd-last", "cw", "fgsm"])
@pytest.mark.parametrize("restarts", [1, 3])
def test_stopping_early_breaks_the_same_images(name: str, restarts: int) -> None:
    x = images(5, 60)
    y = NET(x).argmax(1)
    config = replace(configured(SINGLE[name], "Linf", 0.02), step_size=0.01, restarts=restarts)
    full, early, rows = run(SINGLE[name], x, y, config), OnlyBroken(), seeds(60)
    moved = SINGLE[name].run(early, x, y, config, rows)  # type: ignore[misc]
    broken = NET(full).argmax(1) != y
    assert 0 < int(broken.sum()) < 60
    assert torch.equal(NET(moved).argmax(1) != y, broken)
    # Together with the one answer that decides, no more than the last iterate of each restart costs.
    assert early.rows + 60 <= 60 * config.restarts * (config.num_steps + 1)


@pytest.mark.parametrize("name", ["pgd", "pgd-last", "cw", "apgd-ce", "apgd-t"])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_an_attack_on_one_image_ignores_its_neighbours(name: str, norm: str) -> None:
    x = images(8, 12)
    y = NET(x).argmax(1)
    config = replace(configured(SINGLE[name], norm, 0.05), restarts=2)
    attack, rows = SINGLE[name].run, torch.tensor([7, 2, 9])
    assert attack is not None
    together, apart = attack(NET, x, y, config, seeds(12)), attack(NET, x[rows], y[rows], config, seeds(12)[rows])
    assert torch.allclose(together[rows], apart, atol=1e-6)


def test_a_start_depends_on_seed_example_and_restart() -> None:
    x = images(1, 3)
    starts = [uniform(example_seeds(seed, rows) + restart, x) for seed, rows, restart in (
        (0, (4, 5, 6), 0), (0, (6, 5, 9), 0), (1, (4, 5, 6), 0), (0, (4, 5, 6), 1),
    )]  # fmt: skip
    assert torch.equal(starts[0][2], starts[1][0])
    assert torch.equal(starts[0][1], starts[1][1])
    assert not any(torch.equal(starts[0][row], starts[other][row]) for row in range(3) for other in (2, 3))
    assert len({float(start.sum()) for start in starts[0]}) == 3
    assert -1 <= float(starts[0].min()) < -0.9 and 0.9 < float(starts[0].max()) <= 1


def test_protocols_and_user_settings() -> None:
    config = AttackConfig(num_steps=20, step_size=0.01, restarts=3)
    unnamed = {name: attack.settle(config, frozenset()) for name, attack in ATTACKS.items()}
    assert {name: c.num_steps for name, c in unnamed.items()} == {
        "apgd-ce": 100, "apgd-dlr": 100, "apgd-t": 100, "autoattack": 100, "autoattack-rand": 100, "cw": 20,
        "fab-t": 100, "fgsm": 1, "pgd": 20, "pgd-last": 20, "square": 5000,
    }  # fmt: skip
    assert {name for name, c in unnamed.items() if c.restarts == 3} == {"pgd", "pgd-last", "cw"}
    assert unnamed["apgd-ce"].step_size == 0
    assert unnamed["fgsm"].step_size == config.epsilon
    assert ATTACKS["apgd-ce"].settle(config, frozenset({"num_steps"})).num_steps == 20


def test_the_cascades_are_those_of_the_paper() -> None:
    stages = {name: [stage.name for stage in attack.cascade] for name, attack in ATTACKS.items() if attack.stages}
    assert stages == {
        "autoattack": ["apgd-ce", "apgd-t", "fab-t", "square"],
        "autoattack-rand": ["apgd-ce", "apgd-dlr"],
    }
    assert ATTACKS["autoattack-rand"].eot_draws == 20
    asked = []

    def counting(x: Tensor) -> Tensor:
        asked.append(len(x))
        out: Tensor = NET(x)
        return out

    x = images(6, 2)
    config = configured(ATTACKS["autoattack-rand"], "Linf", 0.01, 2)
    stage = ATTACKS["autoattack-rand"].stages[0]
    assert stage.run is not None
    stage.run(counting, x, NET(x).argmax(1), config, seeds(2))
    assert len(asked) == 20 * (2 + 1) + 1, "and the image itself once"


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_square_returns_its_last_point(norm: str) -> None:
    # An attack made at another lam is judged by these images: unmoved ones would make it look harmless.
    pytest.importorskip("pyautoattack", reason="pyautoattack is not installed")
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    y = NET(x).argmax(1)
    config = AttackConfig(norm=norm, epsilon=0.01, num_steps=20, restarts=2)  # type: ignore[arg-type]
    moved = SINGLE["square"].run(NET, x, y, config, seeds(6))  # type: ignore[misc]
    robust = NET(moved).argmax(1) == y
    assert robust.any()
    assert ((moved - x).flatten(1).abs().amax(1) > 0).all()
