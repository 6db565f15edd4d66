"""PGD: constraints on adversarial images for any network, and the closed form for a linear one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from distcond.attacks.pgd import input_gradient, pgd, summed_cross_entropy
from distcond.attacks.projection import l2_norms, project, random_init, steepest_direction
from distcond.config.schema import AttackConfig

SHAPE = (3, 2, 4, 4)
QUICK = settings(max_examples=25, deadline=None, derandomize=True, database=None)
ATTACKS = st.builds(
    AttackConfig,
    norm=st.sampled_from(["Linf", "L2"]),
    epsilon=st.floats(0, 2),
    step_size=st.floats(0, 3),
    num_steps=st.integers(0, 3),
    random_start=st.booleans(),
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(seed: int = 0) -> Tensor:
    """Some pixels on the edge of the box."""
    return (1.4 * torch.rand(SHAPE, generator=seeded(seed)) - 0.2).clamp(0, 1)


def unit(seed: int = 1) -> Tensor:
    return 2 * torch.rand(SHAPE, generator=seeded(seed)) - 1


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5))


NET, Y = network(), torch.tensor([0, 3, 4])


def attacked(attack: AttackConfig, x: Tensor, start: Tensor | None = None) -> Tensor:
    return pgd(lambda at, step: NET(at), x, Y, attack, start)


def size(delta: Tensor, norm: str) -> Tensor:
    return delta.flatten(1).abs().amax(1) if norm == "Linf" else delta.flatten(1).norm(dim=1)


@QUICK
@given(attack=ATTACKS, seed=st.integers(0, 99))
def test_results_stay_within_epsilon_and_pixel_range(attack: AttackConfig, seed: int) -> None:
    x = images(seed)
    moved = attacked(attack, x, unit(seed + 1))
    assert moved.shape == x.shape
    assert not moved.requires_grad
    assert (size(moved - x, attack.norm) <= attack.epsilon + 1e-6).all()
    assert ((moved >= 0) & (moved <= 1)).all()


@QUICK
@given(attack=ATTACKS, seed=st.integers(0, 99))
def test_epsilon_zero_gives_the_image_back(attack: AttackConfig, seed: int) -> None:
    assert torch.equal(attacked(replace(attack, epsilon=0.0), images(seed), unit()), images(seed))


@QUICK
@given(seed=st.integers(0, 99), norm=st.sampled_from(["Linf", "L2"]), epsilon=st.floats(0, 2))
def test_a_projection_is_the_nearest_point(seed: int, norm: str, epsilon: float) -> None:
    x, moved = images(seed), images(seed) + 2 * unit(seed)
    nearest = project(moved, x, norm, epsilon)
    assert torch.allclose(project(nearest, x, norm, epsilon), nearest, atol=1e-6)
    inside = project(x + epsilon * unit(seed + 1), x, norm, epsilon)
    assert torch.allclose(project(inside, x, norm, epsilon), inside, atol=1e-6)
    if norm == "Linf":
        assert (l2_norms(moved - nearest) <= l2_norms(moved - inside) + 1e-5).all()


@QUICK
@given(seed=st.integers(0, 99), norm=st.sampled_from(["Linf", "L2"]), epsilon=st.floats(0.01, 2))
def test_random_starts_fill_the_ball(seed: int, norm: str, epsilon: float) -> None:
    offset = random_init(unit(seed), norm, epsilon)
    assert (size(offset, norm) <= epsilon * (1 + 1e-6)).all()
    assert torch.allclose(size(random_init(torch.ones(SHAPE), norm, epsilon), norm), torch.tensor(epsilon), rtol=1e-5)


def test_l2_starts_are_uniform_in_length_and_direction() -> None:
    many = 2 * torch.rand((4000, 3, 4, 4), generator=seeded(3)) - 1
    offset = random_init(many, "L2", 2.0)
    assert abs(float(l2_norms(offset).mean()) - 1.0) < 0.05
    assert offset.mean((0, 2, 3)).abs().max() < 0.02


def test_no_step_gives_the_start() -> None:
    still = AttackConfig(num_steps=0, random_start=False)
    assert torch.equal(attacked(still, images()), images())
    start = replace(still, random_start=True, epsilon=0.1)
    assert torch.equal(attacked(start, images(), unit()), (images() + 0.1 * unit()).clamp(0, 1))


def linear(weight: Tensor) -> nn.Module:
    net = nn.Sequential(nn.Flatten(), nn.Linear(weight.shape[1], 2, bias=False))
    net[1].weight.data = weight
    return net


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("num_steps", [1, 3, 6])
def test_a_linear_network_gives_the_closed_form(norm: str, num_steps: int) -> None:
    # Two classes: the gradient points along the difference of the two weights at every point, so the path is straight.
    weight = torch.randn(2, 32, generator=seeded(5)) / 8
    x, y = 0.5 + 0.1 * unit(), torch.tensor([0, 1, 0])
    attack = AttackConfig(norm=norm, epsilon=0.1, step_size=0.025, num_steps=num_steps, random_start=False)
    net = linear(weight)
    moved = pgd(lambda at, step: net(at), x, y, attack, None)
    uphill = (weight[1 - y] - weight[y]).view(SHAPE)
    way = uphill.sign() if norm == "Linf" else uphill / uphill.flatten(1).norm(dim=1)[:, None, None, None]
    assert torch.allclose(moved, x + min(0.1, 0.025 * num_steps) * way, atol=1e-6)


def test_it_raises_the_loss() -> None:
    x = images()
    before = nn.functional.cross_entropy(NET(x), Y, reduction="none")
    for norm, epsilon in (("Linf", 0.1), ("L2", 0.5)):
        attack = AttackConfig(norm=norm, epsilon=epsilon, step_size=epsilon / 4, num_steps=8, random_start=False)
        after = nn.functional.cross_entropy(NET(attacked(attack, x)), Y, reduction="none")
        assert (after > before + 0.01).all()


def test_parameters_get_no_gradient_and_images_stay() -> None:
    x, before = images(), images()
    attacked(AttackConfig(), x, unit())
    assert all(parameter.grad is None for parameter in NET.parameters())
    assert torch.equal(x, before)
    assert x.grad is None
    assert not x.requires_grad


def test_draws_no_random_numbers_of_its_own() -> None:
    attack = AttackConfig(epsilon=0.1, step_size=0.02, num_steps=3)
    state = torch.get_rng_state()
    one, again = attacked(attack, images(), unit()), attacked(attack, images(), unit())
    assert torch.equal(one, again)
    assert not torch.equal(one, attacked(attack, images(), unit(9)))
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(AssertionError, match="random"):
        attacked(attack, images(), None)
    fixed = replace(attack, random_start=False)
    assert torch.equal(attacked(fixed, images(), unit()), attacked(fixed, images(), None))


def test_a_row_does_not_depend_on_the_others() -> None:
    attack = AttackConfig(epsilon=0.1, step_size=0.03, num_steps=3)
    whole = attacked(attack, images(), unit())
    alone = pgd(lambda at, step: NET(at), images()[1:2], Y[1:2], attack, unit()[1:2])
    assert torch.allclose(whole[1:2], alone, atol=1e-6)


def test_each_step_calls_the_network_once_with_number() -> None:
    steps: list[int] = []

    def logits(at: Tensor, step: int) -> Tensor:
        steps.append(step)
        out: Tensor = NET(at)
        return out

    pgd(logits, images(), Y, AttackConfig(num_steps=4), unit())
    assert steps == [0, 1, 2, 3]


def test_another_loss_is_maximised() -> None:
    attack = AttackConfig(epsilon=0.1, step_size=0.1, num_steps=1, random_start=False)
    moved = pgd(lambda at, step: NET(at), images(), Y, attack, None, loss=lambda logits, y: -logits[:, 2].sum())
    assert (NET(moved)[:, 2] < NET(images())[:, 2]).all()


def test_a_large_batch_does_not_shrink_gradients() -> None:
    logits = NET(images()).detach()
    loss = summed_cross_entropy(logits.bfloat16(), Y)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(3 * nn.functional.cross_entropy(logits.bfloat16().float(), Y).item(), rel=1e-6)


def test_zero_gradients_give_no_direction() -> None:
    assert torch.equal(steepest_direction(torch.zeros(SHAPE), "L2"), torch.zeros(SHAPE))
    assert torch.equal(steepest_direction(torch.zeros(SHAPE), "Linf"), torch.zeros(SHAPE))


def test_only_the_input_gets_a_gradient() -> None:
    x = images()
    found = input_gradient(lambda at: (at**3).sum(), x)
    assert torch.allclose(found, 3 * x**2)
    with torch.no_grad():
        assert torch.allclose(input_gradient(lambda at: (at**3).sum(), x), 3 * x**2)


def test_loss_of_reduced_precision_logits_is_in_float32() -> None:
    attack = AttackConfig(epsilon=0.1, step_size=0.1, num_steps=1, random_start=False)
    seen: list[torch.dtype] = []

    def logits(at: Tensor, step: int) -> Tensor:
        out: Tensor = NET(at).bfloat16()
        out.register_hook(lambda grad: seen.append(grad.dtype))
        return out

    moved = pgd(logits, images(), Y, attack, None)
    assert moved.dtype == torch.float32
    assert seen == [torch.bfloat16]
    assert (size(moved - images(), "Linf") > 0).all()
