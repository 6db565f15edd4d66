"""Evidence: gathered at the stated cost, within epsilon, depending on its arguments only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from distcond.config.schema import AttackConfig
from distcond.gradient_masking.diagnose import CHECKS, Diagnosis, diagnose
from distcond.gradient_masking.evidence import EPSILON_SHARES, FULL, PROBE, Depth, gather_evidence, pgd_trace
from distcond.gradient_masking.random_search import random_search


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 6))
        net[3].weight.data.mul_(4)
    return net.requires_grad_(False)


NET = network()
X = torch.rand((24, 3, 8, 8), generator=torch.Generator().manual_seed(1))
Y = NET(X).argmax(1)
ATTACK = AttackConfig(epsilon=0.02, step_size=0.005, num_steps=4)


class Counting:
    """How many images a network is asked about, and that nothing else is drawn or changed."""

    def __init__(self) -> None:
        self.rows = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        out: Tensor = NET(x)
        return out


@pytest.mark.parametrize("depth", [PROBE, FULL, Depth(queries=7)])
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_cost_is_as_stated(depth: Depth, norm: str) -> None:
    counting, config = Counting(), AttackConfig(norm=norm, epsilon=0.02, step_size=0.005, num_steps=4)
    gather_evidence(counting, X, Y, config, 0, depth)
    backwards = 1 + depth.steps(config) + depth.unbounded_steps
    assert counting.rows + backwards * len(X) == depth.forwards(config) * len(X)
    assert PROBE.forwards(config) == 18


@pytest.mark.parametrize("depth", [PROBE, FULL])
@pytest.mark.parametrize("epsilon", [0.02, 0.1])
def test_the_training_comparison_is_counted(depth: Depth, epsilon: float) -> None:
    counting, config = Counting(), AttackConfig(epsilon=0.02, step_size=0.005, num_steps=5)
    one = AttackConfig(epsilon=epsilon, step_size=epsilon, num_steps=1, random_start=False)
    gather_evidence(counting, X, Y, config, 0, depth, one)
    forwards = depth.forwards(config, one) - depth.forwards(config)
    assert forwards == (3 if epsilon == 0.02 else 3 + 21)
    backwards = 1 + depth.steps(config) + depth.unbounded_steps + (1 if epsilon == 0.02 else 11)
    assert counting.rows + backwards * len(X) == depth.forwards(config, one) * len(X)


def test_evidence_depends_on_arguments_only() -> None:
    before, state = X.clone(), torch.get_rng_state()
    one, again = (diagnose(NET, X, Y, ATTACK, 3, trained=ATTACK) for _ in range(2))
    assert one == again
    assert [finding.name for finding in one.findings] == [check.__name__ for check in CHECKS]
    assert torch.equal(X, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in NET.parameters())


def test_misclassified_images_are_skipped() -> None:
    y = torch.where(torch.arange(24) < 5, (Y + 1) % 6, Y)
    assert gather_evidence(NET, X, y, ATTACK, 0, PROBE).size == 19
    assert diagnose(NET, X, y, ATTACK, 0, PROBE).findings[0].fact == "0 % of 19 inputs"


def test_empty_attacks_give_no_findings() -> None:
    assert diagnose(NET, X, Y, AttackConfig(epsilon=0.0), 0) == Diagnosis(())
    assert diagnose(NET, X, Y, AttackConfig(num_steps=0), 0) == Diagnosis(())
    assert diagnose(NET, X, (Y + 1) % 6, ATTACK, 0) == Diagnosis(())
    assert Diagnosis(()).names == ""


def test_networks_at_chance_give_no_warning() -> None:
    labels = torch.arange(24) % 6

    def constant(x: Tensor) -> Tensor:
        return torch.eye(6)[2].expand(len(x), -1) + 1e-3 * NET(x)

    assert gather_evidence(constant, X, labels, ATTACK, 0, FULL).size == 4
    assert diagnose(constant, X, labels, ATTACK, 0) == Diagnosis(())


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_random_search_improves_within_epsilon(norm: str) -> None:
    epsilon, asked = (0.05 if norm == "Linf" else 0.5), []

    def logits(x: Tensor) -> Tensor:
        asked.append(x)
        out: Tensor = NET(x)
        return out

    few, many = (random_search(logits, X, Y, norm, epsilon, queries, 0).sum() for queries in (1, 100))
    assert few < many
    assert len(asked) == 101
    for x in asked:
        delta = (x - X).flatten(1)
        length = delta.abs().amax(1) if norm == "Linf" else delta.norm(dim=1)
        assert (length <= epsilon + 1e-5).all()
        assert ((x >= 0) & (x <= 1)).all()
    assert length.mean() > 0.9 * epsilon


def test_the_trace_is_pgd() -> None:
    path = pgd_trace(NET, X, Y, ATTACK, 0)
    assert path.loss.shape == path.margin.shape == path.wrong.shape == (5, 24)
    assert (path.loss[-1] > path.loss[0]).float().mean() > 0.9
    assert torch.equal(path.wrong, path.margin > 0)
    still = pgd_trace(NET, X, Y, AttackConfig(epsilon=0.02, num_steps=1, step_size=0.0, random_start=False), 0)
    assert torch.allclose(still.loss[1], nn.functional.cross_entropy(NET(X), Y, reduction="none"))


def test_the_ray_ends_at_the_single_step() -> None:
    evidence = gather_evidence(NET, X, Y, ATTACK, 0, PROBE)
    leaf = X.clone().requires_grad_()
    nn.functional.cross_entropy(NET(leaf), Y).backward()
    assert leaf.grad is not None
    moved = (X + 0.02 * leaf.grad.sign()).clamp(0, 1)
    assert EPSILON_SHARES[-1] == 1
    assert torch.allclose(evidence.ray.loss[-1], nn.functional.cross_entropy(NET(moved), Y, reduction="none"))
