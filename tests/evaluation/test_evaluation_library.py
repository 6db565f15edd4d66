"""Our cascade over pyautoattack's attacks breaks the examples that the library's own run breaks, one by one."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from distcond.attacks.starts import Seeds, example_seeds, joint_seed, normal, uniform
from distcond.config.schema import AttackConfig
from distcond.data.loader import to_float
from distcond.evaluation.cascade import adaptive
from distcond.models.conditional import AtLambda
from distcond.registry import lookup
from support.installed import needs

needs("pyautoattack", "it is an optional extra: pip install 'distcond[attacks]'")

SEEDS = example_seeds(17, range(16))


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(4)
        net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 10))
        net[3].weight.data.mul_(3)
    return net.eval().requires_grad_(False)


def examples(net: nn.Module, n: int) -> tuple[Tensor, Tensor]:
    """Images of the network's own answers, a few of them relabelled: wrong without attack."""
    x = torch.rand((n, 3, 6, 6), generator=torch.Generator().manual_seed(5))
    y = net(x).argmax(1)
    y[:2] = (y[:2] + 1) % 10
    return x, y


def with_starts(attack: Any, x: Tensor, seeds: Seeds) -> None:
    """Have one of the library's gradient attacks begin each image at its own start; it draws them together."""
    single, perturb, runs = attack.attack_single_run, attack.perturb, [0]

    def begun(images: Tensor, labels: Tensor, x_init: Tensor | None = None) -> Any:
        own = seeds[[place(image, x) for image in images]] + runs[0]
        runs[0] += 1
        draw = uniform if attack.norm == "Linf" else normal
        return single(images, labels, images + attack.eps * attack.normalize(draw(own, images)))

    def again(*args: Any, **more: Any) -> Any:
        runs[0] = 0
        return perturb(*args, **more)

    attack.attack_single_run, attack.perturb = begun, again


def with_joint_seed(attack: Any, x: Tensor, seeds: Seeds) -> None:
    """Have a search that draws once for all its images draw from their seeds."""
    perturb = attack.perturb

    def seeded(images: Tensor, labels: Tensor, **more: Any) -> Any:
        attack.seed = joint_seed(seeds[[place(image, x) for image in images]])
        return perturb(images, labels, **more)

    attack.perturb = seeded


def place(image: Tensor, x: Tensor) -> int:
    """Which of the images x it is."""
    return int((x == image).flatten(1).all(1).nonzero()[0])


def library_keeps(net: nn.Module, x: Tensor, y: Tensor, config: AttackConfig, name: str, seeds: Seeds) -> Tensor:
    """Which examples survive `AutoAttack.run_standard_evaluation`: its own settings, but for fewer steps and starts."""
    from pyautoattack import AutoAttack

    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    how = {"version": "standard"} if name == "autoattack" else {"version": "custom", "attacks": [name]}
    theirs = AutoAttack(net, norm=config.norm, eps=config.epsilon, seed=0, device="cpu", **how)
    theirs.apgd.n_restarts = 1
    if config.num_steps != 100:
        for part in (theirs.apgd, theirs.apgd_targeted, theirs.fab):
            part.n_iter = config.num_steps
        for part in (theirs.apgd, theirs.apgd_targeted):
            part.n_iter_2, part.n_iter_min, part.size_decr = (
                max(int(share * config.num_steps), 1) for share in (0.22, 0.06, 0.03)
            )
        theirs.square.n_queries = 50 * config.num_steps
    for part in (theirs.apgd, theirs.apgd_targeted):
        with_starts(part, x, seeds)
    for part in (theirs.fab, theirs.square):
        with_joint_seed(part, x, seeds)
    with torch.random.fork_rng():
        moved, _ = theirs.run_standard_evaluation(x, y, batch_size=len(x))
    right: Tensor = net(moved).argmax(1) == y
    return right


@pytest.mark.parametrize(
    ("name", "norm", "num_steps"),
    [
        ("apgd-ce", "Linf", 100),
        ("apgd-ce", "L2", 100),
        ("apgd-t", "L2", 20),
        pytest.param("autoattack", "Linf", 100, marks=pytest.mark.cluster),
        ("autoattack", "L2", 6),
    ],
)
def test_example_by_example(name: str, norm: str, num_steps: int) -> None:
    net, attack = network(), lookup("attack", name)
    x, y = examples(net, 16)
    config = AttackConfig(norm=norm, epsilon=0.012 if norm == "Linf" else 0.1, num_steps=num_steps)
    given = frozenset({"num_steps"} if num_steps != 100 else ())
    settled = attack.settle(config, given)
    assert settled.num_steps == num_steps
    found = adaptive(net, net, x, y, net(x).argmax(1) == y, attack, settled, SEEDS)
    theirs = library_keeps(net, x, y, settled, name, SEEDS)
    assert torch.equal(found == -1, theirs)
    assert 1 < int(theirs.sum()) < 14, "some survive, some do not"
    assert (found[:2] == 0).all()


@pytest.mark.parametrize(
    ("name", "num_steps"),
    [
        ("apgd-ce", 100),
        pytest.param("autoattack", 20, marks=pytest.mark.cluster),
    ],
)
def test_noisy_conditional_network_agrees_with_library(
    plan: Any, carried_out: Any, correct: Any, name: str, num_steps: int
) -> None:
    """An evaluation's own count of a FLOAT run, folded at a lam with its draw of the noise, against the library's."""
    words = ["eval.lam_grid=0.7", "eval.test_examples=24", "eval.batch_size=12", "eval.attack.epsilon=0.06"]
    made = plan(f"attack={name}", f"eval.attack.num_steps={num_steps}", "eval.sentinel=off", *words)
    assert (made.noisy, made.blocks) == (True, 2)
    counter = carried_out(made)
    net = AtLambda(counter.model, 0.7, noise_seed=made.config.eval.noise_seed)
    theirs = []
    for block in range(made.blocks):
        ((raw, y),) = counter.source.read([made.members(block)])
        x, seeds = to_float(raw).contiguous(), made.seeds(block)
        theirs.append(library_keeps(net, x, y, made.strengths[name], name, seeds).numpy())
    assert np.array_equal(correct(made)[name, 0.7, "fixed", 0.7], np.concatenate(theirs))
    assert all(1 <= kept.sum() <= 11 for kept in theirs), "some survive, some do not"
