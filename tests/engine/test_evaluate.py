"""Every example counts once, for any number of ranks; and what the counts mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from distcond.attacks.pgd import pgd
from distcond.config.schema import AttackConfig, Config
from distcond.data.dataset import Arrays
from distcond.data.sources import MemorySource
from distcond.distributed.world import World
from distcond.engine.evaluate import Blocks, Count, survives, sweep
from distcond.layers.condition import AtLambda
from distcond.models.conditional import ConditionalModel
from distcond.runs.build import build_model, full_float32
from distcond.seeding import generator
from support.groups import quick

ATTACK = AttackConfig(epsilon=0.2, step_size=0.1, num_steps=2)
GRID = (0.0, 0.4, 1.0)


def source(n: int) -> MemorySource:
    """Images of one colour each, with some noise: pooled features differ."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 200, (n, 1, 1, 3)) + rng.integers(0, 56, (n, 8, 8, 3))
    return MemorySource(Arrays(images.astype(np.uint8), rng.integers(0, 10, n)))


@torch.no_grad()
def lively(config: Config) -> ConditionalModel:
    """A network whose answers differ from image to image and from one operating point to the next."""
    model = build_model(config)
    ((raw, _),) = source(64).read([np.arange(64)])
    for lam in (0.0, 1.0) * 20:
        for width in range(len(model.width_mults)):
            model(raw.permute(0, 3, 1, 2).float() / 255, model.condition(lam, width=width, noise=model.draw_noise(9)))
    model.backbone.linear.weight.mul_(10)
    model.eval()
    model.backbone.linear.bias -= AtLambda(model, 1.0)(raw.permute(0, 3, 1, 2).float() / 255).mean(0)
    return model


def counted(config: Config, n: int, world: World, attack: AttackConfig = ATTACK, batch_size: int = 50) -> list[Count]:
    model = lively(config)
    return list(sweep(model, Blocks(source(n), 0, batch_size), world, GRID, attack, seed=3, noise_seed=0))


def integers(counts: list[Count]) -> list[tuple[Any, ...]]:
    return [(c.lam, c.width, c.sa_correct, c.ra_correct, c.num_examples) for c in counts]


def on_rank(rank: int, world: int, config: Config, sizes: tuple[int, ...]) -> list[list[tuple[Any, ...]]]:
    return [integers(counted(config, n, World(rank, world))) for n in sizes]


SIZES = (203, 1, 49, 50, 51)


@pytest.mark.parametrize("world", quick(2, of=[2, 3]))
def test_counts_do_not_depend_on_world_size(tiny: Any, run_ranks: Any, world: int) -> None:
    config = tiny("float")
    alone = on_rank(0, 1, config, SIZES)
    assert [points[0][-1] for points in alone] == list(SIZES)
    assert all(len(points) == len(GRID) for points in alone)
    assert len({alone[0][n][2] for n in range(3)}) > 1, "operating points that differ"
    for found in run_ranks(on_rank, world, config, SIZES):
        assert found == alone


def test_every_width_is_swept(tiny: Any) -> None:
    found = counted(tiny("float_slim"), 30, World())
    widths = build_model(tiny("float_slim")).width_mults
    assert [(c.lam, c.width) for c in found] == [(lam, width) for lam in GRID for width in widths]


def test_a_budget_counts_examples_of_every_class(tiny: Any) -> None:
    model = lively(tiny("float"))
    (count,) = sweep(model, Blocks(source(100), 30, 8), World(), (1.0,), ATTACK, seed=3, noise_seed=0)
    assert count.num_examples == 30
    blocks = Blocks(source(100), 30, 8)
    parts = [part for _, part in blocks.of(World())]
    rows, labels = np.concatenate(parts), source(100).labels
    assert np.array_equal(rows, blocks.rows)
    assert len(set(rows.tolist())) == 30
    assert set(labels[rows]) == set(labels)
    dealt = [number for rank in range(3) for number, _ in blocks.of(World(rank, 3))]
    assert sorted(dealt) == [0, 1, 2, 3]
    assert len(Blocks(source(10), 99, 8).of(World())) == 2


def test_counts_by_hand(tiny: Any) -> None:
    model, data = lively(tiny("float")), source(20)
    (count,) = sweep(model, Blocks(data, 0, 20), World(), (1.0,), ATTACK, seed=3, noise_seed=5)
    network = AtLambda(model, 1.0, noise_seed=5)
    ((raw, y),) = data.read([np.arange(20)])
    x = raw.permute(0, 3, 1, 2).float() / 255
    clean = network(x).argmax(1) == y
    alive, loss = survives(network, x, y, ATTACK, (3, "evaluate", 0))
    assert (count.sa_correct, count.ra_correct) == (int(clean.sum()), int((clean & alive).sum()))
    assert count.ra_loss == pytest.approx(loss.item() / 20, rel=1e-5)
    assert count.num_examples == 20


def test_radius_zero_leaves_the_clean_count(tiny: Any) -> None:
    for count in counted(tiny("float"), 120, World(), replace(ATTACK, epsilon=0.0)):
        assert count.ra_correct == count.sa_correct


def test_robust_examples_survive_every_restart(tiny: Any) -> None:
    model = lively(tiny("float"))
    network, ((raw, y),) = AtLambda(model, 1.0), source(200).read([np.arange(200)])
    x = raw.permute(0, 3, 1, 2).float() / 255
    y = network(x).argmax(1)
    attack = AttackConfig(epsilon=0.3, step_size=0.02, num_steps=1)
    one, _ = survives(network, x, y, attack, (0,))
    three, _ = survives(network, x, y, replace(attack, restarts=3), (0,))
    assert 0 < int(three.sum()) < int(one.sum())
    assert (one | ~three).all()


def test_random_start_depends_on_seed_and_block(tiny: Any) -> None:
    model = lively(tiny("float"))
    network, ((raw, y),) = AtLambda(model, 1.0), source(8).read([np.arange(8)])
    x, starts = raw.permute(0, 3, 1, 2).float() / 255, []
    still = AttackConfig(epsilon=0.1, num_steps=0)

    class Look(torch.nn.Module):
        def forward(self, at: torch.Tensor) -> torch.Tensor:
            starts.append(at)
            out: torch.Tensor = network(at)
            return out

    for key in ((0, "evaluate", 0), (0, "evaluate", 0), (0, "evaluate", 1), (1, "evaluate", 0)):
        survives(Look(), x, y, still, key)
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    assert not torch.equal(starts[0], starts[3])
    assert (starts[0] - x).abs().max() <= 0.1 + 1e-6


def test_wrong_clean_example_is_not_robust(tiny: Any) -> None:
    model, data = lively(tiny("float")), source(100)
    network, ((raw, _),) = AtLambda(model, 1.0), data.read([np.arange(100)])
    x = raw.permute(0, 3, 1, 2).float() / 255
    start = 2 * torch.rand(x.shape, generator=generator(3, "evaluate", 0, 0)) - 1
    answers = network((x + 0.5 * start).clamp(0, 1)).argmax(1)
    relabelled = MemorySource(Arrays(raw.numpy(), answers.numpy()))
    still = AttackConfig(epsilon=0.5, num_steps=0)
    (count,) = sweep(model, Blocks(relabelled, 0, 100), World(), (1.0,), still, seed=3, noise_seed=0)
    assert count.ra_correct == count.sa_correct < 100


def test_a_stronger_attack_breaks_more(tiny: Any) -> None:
    model = lively(tiny("float"))
    network, ((raw, _),) = AtLambda(model, 1.0), source(100).read([np.arange(100)])
    x = raw.permute(0, 3, 1, 2).float() / 255
    y = network(x).argmax(1)
    weak, strong = (
        int((network(pgd(lambda at, step: network(at), x, y, attack, None)).argmax(1) == y).sum())
        for attack in (
            AttackConfig(epsilon=0.01, step_size=0.01, num_steps=1, random_start=False),
            AttackConfig(epsilon=0.1, step_size=0.03, num_steps=5, random_start=False),
        )
    )
    assert strong < weak


def test_full_float32_restores_the_settings() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with full_float32():
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == before
