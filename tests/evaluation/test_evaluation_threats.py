"""What the attacker knows: lam or another one, the draw of the noise or none; and what a cascade spares."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distcond.attacks.attack import Attack
from distcond.attacks.starts import Seeds, example_seeds
from distcond.config.schema import AttackConfig
from distcond.errors import ConfigError
from distcond.evaluation import blocks, outcomes
from distcond.evaluation.cascade import adaptive
from distcond.evaluation.networks import QueryCounter, attacked_model, target_model
from distcond.evaluation.probes import agreement, gradient_signs
from distcond.evaluation.rows import keep_rows
from distcond.models.conditional import AtLambda
from distcond.operating_point import OperatingPoint
from distcond.results.row import Row
from distcond.runs.load_run import load

CPU = torch.device("cpu")
SEEDS, POINT = example_seeds(0, range(8)), OperatingPoint(1.0)


def test_later_stages_skip_broken_examples() -> None:
    asked: list[int] = []

    def stage(name: str, wrong: int) -> Attack:
        def run(logits: Any, x: torch.Tensor, y: torch.Tensor, config: AttackConfig, seeds: Seeds) -> torch.Tensor:
            asked.append(len(x))
            moved = x.clone()
            moved[:wrong] += 0.01
            return moved

        return Attack(name, "moves a few", run)

    def network(x: torch.Tensor) -> torch.Tensor:
        high = (x.flatten(1)[:, 0] > 0.505).float()
        return torch.stack([1 - high, high], 1)

    attack = Attack("both", "two", stages=(stage("a", 2), stage("b", 3)))
    x, y = torch.full((8, 3, 2, 2), 0.5), torch.zeros(8, dtype=torch.int64)
    y[7] = 1
    found = adaptive(network, network, x, y, network(x).argmax(1) == y, attack, AttackConfig(epsilon=0.02), SEEDS)
    assert asked == [7, 5]
    assert found.tolist() == [1, 1, 2, 2, 2, -1, -1, 0]
    with pytest.raises(ConfigError, match=r"^attack a: .*0\.001"):
        adaptive(network, network, x, y, y == 0, attack, AttackConfig(epsilon=0.001), SEEDS)


@pytest.mark.parametrize(("place", "by"), [(0.5, 0.1), (0.95, 0.05)])
def test_attack_outside_ball_or_box_is_refused(place: float, by: float) -> None:
    def moves(much: float) -> Attack:
        return Attack("a", "moves all", lambda logits, x, y, config, seeds: x + much)

    x, y = torch.full((2, 3, 2, 2), place), torch.zeros(2, dtype=torch.int64)
    config = AttackConfig(epsilon=0.1)

    def network(at: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[1.0, 0.0]]).repeat(len(at), 1)

    assert adaptive(network, network, x, y, y == 0, moves(by), config, SEEDS[:2]).tolist() == [-1, -1]
    with pytest.raises(ConfigError, match=r"^attack a: "):
        adaptive(network, network, x, y, y == 0, moves(by + 3e-6), config, SEEDS[:2])


def test_threat_models_side_by_side(plan: Any, carried_out: Any, correct: Any) -> None:
    made = plan("attack=pgd", "threat=adaptive,transfer,worst", "noise=fixed,fresh,eot", "eot_draws=3")
    carried_out(made)
    rows = [row for row in keep_rows(made, 1, CPU) if row.attack == "pgd"]
    seen = {(r.threat, r.attack_lam, r.noise_mode, r.eot_draws) for r in rows if r.lam == 1.0}
    assert seen == {
        (threat, source, noise, 3 if noise == "eot" else 1)
        for threat, source in (("adaptive", 1.0), ("transfer", 0.0), ("worst", -1.0))
        for noise in ("fixed", "fresh", "eot")
    }
    counts: dict[tuple[str, float, str], Row] = {(r.threat, r.lam, r.noise_mode): r for r in rows}
    for noise in ("fixed", "fresh", "eot"):
        for lam in (0.0, 1.0):
            least = min(counts[threat, lam, noise].num_correct for threat in ("adaptive", "transfer"))
            assert counts["worst", lam, noise].num_correct <= least
    assert counts["transfer", 1.0, "fixed"].num_correct >= counts["adaptive", 1.0, "fixed"].num_correct
    found = correct(made)
    survivors = found["pgd", 1.0, "fixed", 1.0] & found["pgd", 1.0, "fixed", 0.0]
    assert counts["worst", 1.0, "fixed"].num_correct == survivors.sum()
    # At lam 0 there is no noise: all noise modes are one.
    assert len({counts["adaptive", 0.0, noise].num_correct for noise in ("fixed", "fresh", "eot")}) == 1


def test_noise_modes_draw_as_they_say(plan: Any) -> None:
    model = load(plan().run_path)
    x = torch.rand((4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    networks = {n: attacked_model(model, POINT, n, 3, ("a", 0)) for n in ("fixed", "fresh", "eot")}
    assert torch.equal(networks["fixed"](x), networks["fixed"](x))
    first, second = networks["fresh"](x), networks["fresh"](x)
    assert not torch.equal(first, second)
    again = attacked_model(model, POINT, "fresh", 1, ("a", 0))
    assert torch.equal(again(x), first)
    third = networks["fresh"](x)
    assert torch.allclose(networks["eot"](x), torch.stack([first, second, third]).mean(0), atol=1e-6)
    assert networks["eot"].rows == 12
    known, unknown = (target_model(model, POINT, noise, 5) for noise in ("fixed", "eot"))
    assert torch.equal(known(x), networks["fixed"](x))
    assert torch.equal(unknown(x), target_model(model, POINT, "fresh", 5)(x))
    assert not torch.equal(unknown(x), target_model(model, POINT, "fresh", 6)(x))
    assert not torch.equal(unknown(x), known(x))


def test_the_probe_compares_the_signs_of_gradients(plan: Any) -> None:
    found = gradient_signs(plan("attack=none"), CPU)
    assert {point.lam for point in found} == {0.0, 1.0}
    assert all(0.8 < share <= 1 for share in found.values())
    # Two classes: the gradient points along one weight, whichever way the loss goes.
    x, y = torch.full((4, 3, 2, 2), 0.5), torch.zeros(4, dtype=torch.int64)
    weight = torch.linspace(-1, 1, 12)

    def network(at: torch.Tensor, turned: bool) -> torch.Tensor:
        down = turned and torch.is_autocast_enabled("cpu")
        up = (at.flatten(1) * (-weight if down else weight)).sum(1)
        return torch.stack([up, torch.zeros_like(up)], 1)

    assert agreement(lambda at: network(at, False), x, y) == 1.0
    assert agreement(lambda at: network(at, True), x, y) == 0.0
    assert agreement(lambda at: torch.zeros(4, 2) + 0 * at.sum(), x, y) == 1.0


@pytest.mark.parametrize("noise", ["fresh", "eot"])
def test_more_restarts_break_more_under_noise(plan: Any, carried_out: Any, correct: Any, noise: str) -> None:
    words = ("attack=pgd", "eval.lam_grid=1", f"noise={noise}", "eot_draws=2", "eval.attack.epsilon=0.12")
    found = {}
    for restarts in (1, 4):
        made = plan(*words, f"eval.attack.restarts={restarts}")
        carried_out(made)
        found[restarts] = correct(made)["pgd", 1.0, noise, 1.0]
    assert not (found[4] & ~found[1]).any(), "the first of four is the one alone"
    assert 0 < found[4].sum() < found[1].sum()


def test_square_under_noise_is_no_lucky_draw(plan: Any, carried_out: Any, correct: Any) -> None:
    words = ("attack=square", "eval.lam_grid=1", "eval.attack.num_steps=150", "eval.attack.epsilon=0.15")
    words += ("eval.test_examples=16", "noise=fixed,fresh,eot", "eot_draws=4")
    made = plan(*words)
    carried_out(made)
    right = {noise: correct(made)["square", 1.0, noise, 1.0].mean() for noise in ("fixed", "fresh", "eot")}
    # A search that the first lucky answer ends is about as harmless as none.
    assert max(right.values()) <= right["fixed"] + 0.2
    (measure,) = [m for m in made.cells() if m.attack and m.noise == "fresh"]
    rows = outcomes.read(made.file(measure, 0), made.members(0)).forward_rows
    assert rows >= 4 * 150 * 10, "every draw of every query is counted"
    assert {row.eot_draws for row in keep_rows(made, 1, CPU) if row.attack == "square"} == {1, 4}


def test_a_network_random_by_itself_proves_nothing(
    plan: Any, carried_out: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, seen = plan("attack=pgd", "eval.lam_grid=0"), list[bool]()
    real = blocks.adaptive

    def watched(network: QueryCounter, *rest: Any) -> torch.Tensor:
        seen.append(network.random)
        return real(network, *rest)

    monkeypatch.setattr(blocks, "adaptive", watched)
    carried_out(made, [0])
    forward = AtLambda.forward
    monkeypatch.setattr(AtLambda, "forward", lambda self, x: forward(self, x + 0.05 * torch.rand_like(x)))
    carried_out(made, [1])
    assert seen == [False, True]
