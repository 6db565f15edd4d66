"""Every example counts once, for any number of ranks; and what the counts mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from distcond.attacks import pgd as pgd_module
from distcond.attacks.pgd import pgd
from distcond.attacks.starts import example_seeds, uniform
from distcond.config.schema import AttackConfig, Config
from distcond.data.dataset import Arrays
from distcond.data.sources import MemorySource
from distcond.data.splits import budget_rows
from distcond.distributed.world import World
from distcond.evaluation.blocks import CellEvaluator, read_blocks
from distcond.evaluation.layout import Blocks
from distcond.evaluation.make_plan import sweep_plan
from distcond.evaluation.rows import Count
from distcond.evaluation.sweep import sweep
from distcond.models.conditional import AtLambda, ConditionalModel
from distcond.models.dial import network_at
from distcond.operating_point import OperatingPoint
from distcond.registry import lookup
from distcond.runs.build import build_model, full_float32
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


def configured(config: Config, attack: AttackConfig = ATTACK, batch_size: int = 50) -> Config:
    return replace(config, seed=3, eval=replace(config.eval, attack=attack, batch_size=batch_size))


def counted(
    config: Config, n: int, world: World, attack: AttackConfig = ATTACK, batch_size: int = 50, losses: bool = False
) -> list[Count]:
    model, config = lively(config), configured(config, attack, batch_size)
    plan = sweep_plan(config, model, source(n), points=map(OperatingPoint, GRID))
    return list(sweep(plan, model, source(n), world, losses=losses))


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
    model, config = lively(tiny("float")), configured(tiny("float"), batch_size=8)
    plan = sweep_plan(config, model, source(100), budget=30, points=[OperatingPoint(1.0)])
    (count,) = sweep(plan, model, source(100), World())
    assert count.num_examples == 30
    rows, labels = np.concatenate([plan.members(block) for block in range(plan.blocks)]), source(100).labels
    assert np.array_equal(rows, budget_rows(source(100), 30))
    assert len(set(rows.tolist())) == 30
    assert set(labels[rows]) == set(labels)
    dealt = [number for rank in range(3) for number in plan.layout.of_rank(World(rank, 3))]
    assert sorted(dealt) == [0, 1, 2, 3]
    assert len(Blocks.of(source(10), 99, 8)) == 2


@pytest.mark.parametrize("name", ["pgd", "pgd-last"])
def test_counts_by_hand(tiny: Any, name: str) -> None:
    model, data, config = lively(tiny("float")), source(60), configured(tiny("float"), batch_size=60)
    config = replace(config, eval=replace(config.eval, attack_name=name, noise_seed=5))
    plan = sweep_plan(config, model, data, points=[OperatingPoint(1.0)])
    (count,) = sweep(plan, model, data, World(), losses=True)
    network = AtLambda(model, 1.0, noise_seed=5)
    ((raw, y),) = data.read([np.arange(60)])
    x = raw.permute(0, 3, 1, 2).float() / 255
    clean = network(x).argmax(1) == y
    moved = lookup("attack", name).run(network, x, y, ATTACK, example_seeds(3, range(60)))
    logits = network(moved).detach()
    assert (count.sa_correct, count.ra_correct) == (int(clean.sum()), int((clean & (logits.argmax(1) == y)).sum()))
    assert count.ra_loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, y)), rel=1e-5)
    assert (count.num_examples, count.point) == (60, OperatingPoint(1.0, noise_seed=5))


def test_radius_zero_leaves_the_clean_count(tiny: Any) -> None:
    for count in counted(tiny("float"), 120, World(), replace(ATTACK, epsilon=0.0)):
        assert count.ra_correct == count.sa_correct


def test_losses_change_no_count(tiny: Any) -> None:
    plain, with_losses = (counted(tiny("float"), 90, World(), losses=losses) for losses in (False, True))
    assert integers(plain) == integers(with_losses)
    assert all(count.ra_loss is None for count in plain)
    assert all(count.ra_loss is not None and count.ra_loss > 0 for count in with_losses)


def test_robust_examples_survive_every_restart(tiny: Any) -> None:
    attack = AttackConfig(epsilon=0.02, step_size=0.002, num_steps=1)
    one, three = (counted(tiny("float"), 200, World(), replace(attack, restarts=n)) for n in (1, 3))
    assert all(b.ra_correct <= a.ra_correct for a, b in zip(one, three, strict=True))
    assert 0 < sum(c.ra_correct for c in three) < sum(c.ra_correct for c in one)


class Watched:
    """Notes what networks are asked about, by the first image of each question."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.starts: list[Tensor] = []
        real = pgd_module.uniform

        def noted(seeds: Tensor, like: Tensor) -> Tensor:
            found = real(seeds, like)
            self.starts += list(found)
            return found

        monkeypatch.setattr(pgd_module, "uniform", noted)

    def all(self) -> set[bytes]:
        found, self.starts = {start.numpy().tobytes() for start in self.starts}, []
        return found


def on_rank_starts(rank: int, world: int, config: Config) -> set[bytes]:
    with pytest.MonkeyPatch.context() as patch:
        watched = Watched(patch)
        counted(config, 40, World(rank, world), batch_size=7)
        return watched.all()


def test_starts_ignore_blocks_and_ranks(tiny: Any, run_ranks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    watched, found = Watched(monkeypatch), []
    for batch_size in (40, 13, 1):
        counted(tiny("pgd_at"), 40, World(), batch_size=batch_size)
        found.append(watched.all())
    assert found[0] == found[1] == found[2]
    assert 0 < len(found[0]) <= 40, "one for each example, at every operating point the same"
    parts = run_ranks(on_rank_starts, 2, tiny("pgd_at"))
    assert parts[0] | parts[1] == found[0] and not parts[0] & parts[1]


def test_a_sweep_costs_no_more_than_before(tiny: Any) -> None:
    """Forward-equivalents per example of earlier versions: clean, and of every restart two a step and the answer."""
    for attack in (ATTACK, replace(ATTACK, num_steps=5, restarts=2), replace(ATTACK, epsilon=1e-4)):
        model, data, config = lively(tiny("float")), source(40), configured(tiny("float"), attack, 40)
        network, plan = AtLambda(model, 1.0), sweep_plan(config, model, data, points=[OperatingPoint(1.0)])
        evaluator = CellEvaluator(plan, model)
        (block,) = read_blocks(plan, data, [0])
        (cell,) = plan.attacked(plan.attacks[0], "fixed")
        evaluator.random_at(cell.point, network, block.x, block.y)  # once, whatever the number of blocks
        with FlopCounterMode(display=False) as one:
            network(block.x)
        with FlopCounterMode(display=False) as spent:
            clean = evaluator.clean(plan.clean(cell.point, "fixed"), block)
            evaluator.adaptive(cell, block, torch.from_numpy(clean.correct))
        before = 1 + attack.restarts * (2 * attack.num_steps + 1)
        assert spent.get_total_flops() / one.get_total_flops() <= before


def test_wrong_clean_example_is_not_robust(tiny: Any) -> None:
    model, data, config = lively(tiny("float")), source(100), configured(tiny("float"), batch_size=100)
    network, ((raw, _),) = AtLambda(model, 1.0), data.read([np.arange(100)])
    x = raw.permute(0, 3, 1, 2).float() / 255
    start = uniform(example_seeds(3, range(100)), x)
    answers = network((x + 0.5 * start).clamp(0, 1)).argmax(1)
    relabelled = MemorySource(Arrays(raw.numpy(), answers.numpy()))
    still = AttackConfig(epsilon=0.5, num_steps=0)
    plan = sweep_plan(config, model, relabelled, attack=still, points=[OperatingPoint(1.0)])
    (count,) = sweep(plan, model, relabelled, World())
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


def test_inspectors_get_a_network_without_early_stops(tiny: Any) -> None:
    model, data, config = lively(tiny("float")), source(20), configured(tiny("float"), batch_size=20)
    plan = sweep_plan(config, model, data, points=[OperatingPoint(1.0)])
    evaluator = CellEvaluator(plan, model, lambda cell, network, x, y: {"stops": float(network.break_only)})
    (block,) = read_blocks(plan, data, [0])
    (cell,) = plan.attacked(plan.attacks[0], "fixed")
    assert evaluator.adaptive(cell, block, torch.ones(20, dtype=torch.bool)).statistics == {"stops": 0.0}


@pytest.mark.parametrize("threat", ["adaptive", "transfer"])
def test_each_restart_counts_by_itself(tiny: Any, threat: str) -> None:
    """Through another network, too: that one restart fools it says nothing of the others at the target."""
    model, attack = lively(tiny("float")), AttackConfig(epsilon=0.03, step_size=0.015, num_steps=1, restarts=4)
    point = OperatingPoint(1.0, "outputs", 0.8) if threat == "adaptive" else OperatingPoint(1.0)
    ((raw, _),) = source(150).read([np.arange(150)])
    answers = network_at(model, point)(raw.permute(0, 3, 1, 2).float() / 255).argmax(1)
    data = MemorySource(Arrays(raw.numpy(), answers.numpy()))

    def robust(attack: AttackConfig, restart: int = 0) -> np.ndarray:
        plan = sweep_plan(configured(tiny("float"), attack, 150), model, data, points=[point])
        (block,), evaluator = read_blocks(plan, data, [0]), CellEvaluator(plan, model)
        block, right = block._replace(seeds=block.seeds + restart), torch.ones(150, dtype=torch.bool)
        (cell,) = plan.attacked(plan.attacks[0], "fixed")
        if threat == "adaptive":
            return evaluator.adaptive(cell, block, right).correct
        ((_, found),) = evaluator.transfer([cell._replace(source=cell.point.at_lam(0.4))], block, {cell.point: right})
        return found.correct

    alone = [robust(replace(attack, restarts=1), restart) for restart in range(4)]
    assert len({tuple(one) for one in alone}) > 1
    assert np.array_equal(robust(attack), np.logical_and.reduce(alone))


def test_a_killed_sweep_loses_one_block(tiny: Any, tmp_path: Path) -> None:
    model, data, config = lively(tiny("float")), source(50), configured(tiny("float"), batch_size=10)
    plan = sweep_plan(config, model, data, run_path=tmp_path, points=[OperatingPoint(1.0)])
    done: list[int] = []

    def killed(rows: int) -> None:
        done.append(rows)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(sweep(plan, model, data, World(), seen=killed, keep=True))
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.glob("outcomes/*/*.npz")}
    assert len(stamps) == 2 * 3, "clean and attacked"
    resumed = list(sweep(plan, model, data, World(), keep=True))
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps
    assert len(list(tmp_path.glob("outcomes/*/*.npz"))) == 2 * 5
    assert integers(resumed) == integers(list(sweep(plan, model, data, World())))
