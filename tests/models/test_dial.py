"""A network at a position of its dial: blends of its two paths, beside the ends put together by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import distcond
from distcond.attacks.pgd import PGD, pgd
from distcond.attacks.starts import example_seeds
from distcond.config.schema import AttackConfig
from distcond.errors import ConfigError
from distcond.evaluation.cascade import adaptive
from distcond.evaluation.outcomes import ROBUST
from distcond.gradient_masking.diagnose import diagnose
from distcond.gradient_masking.evidence import FULL
from distcond.layers.condition import Condition
from distcond.layers.masked import MaskedConv2d
from distcond.models.conditional import AtLambda, ConditionalModel
from distcond.models.dial import OutputBlend, network_at, point_on_dial, surrogate_networks
from distcond.models.flops import cost_at
from distcond.operating_point import OperatingPoint
from distcond.registry import table
from distcond.runs.build import build_model
from support import networks

METHODS = ("oat", "oats", "float", "float_slim", "floats", "smart")
#: One network per way of building one.
MODELS = sorted({value.build: name for name, value in table("model").items()}.values())
#: Each method on one network, and each network with two methods whose layers differ most.
PAIRS = [*((method, "small_cnn") for method in METHODS), *((m, n) for n in MODELS for m in ("oats", "float"))]


def shaken(tiny: Callable[..., Any], method: str, model: str = "small_cnn") -> ConditionalModel:
    """A tiny network in float64 whose statistics, affines and masks are no longer those of the start."""
    return networks.shaken(tiny, method, model).double()


def images(model: str = "small_cnn", count: int = 4) -> Tensor:
    return networks.images(model, count).double()


def ends(net: ConditionalModel, width: int, seed: int) -> tuple[Condition, Condition]:
    """Both ends as conditions that fold nothing."""
    found = net.condition(0.0, width=width), net.condition(1.0, width=width, noise=net.draw_noise(seed))
    if net.encode is not None:
        found = tuple(cond._replace(code=net.encode(cond.lam)) for cond in found)  # type: ignore[assignment]
    return found


@pytest.fixture
def looked_into() -> Callable[[ConditionalModel, nn.Module, Tensor], list[tuple[nn.Module, Tensor, Tensor]]]:
    """`looked_into(net, network, x)`: each unit with what went into it and what came out."""

    def found(net: ConditionalModel, network: nn.Module, x: Tensor) -> list[tuple[nn.Module, Tensor, Tensor]]:
        seen: list[tuple[nn.Module, Tensor, Tensor]] = []
        hooks = [
            unit.register_forward_hook(lambda unit, given, out: seen.append((unit, given[0], out)))
            for unit in net.units
        ]
        network(x)
        for hook in hooks:
            hook.remove()
        return seen

    return found


@torch.no_grad()
@pytest.mark.parametrize(("method", "model"), PAIRS)
def test_weights_blend_equals_the_two_paths_by_hand(tiny: Any, looked_into: Any, method: str, model: str) -> None:
    """Every unit is affine: between two weights lies, for any input, what lies between the two outputs."""
    net = shaken(tiny, method, model)
    for width, mult in enumerate(net.width_mults):
        network = network_at(net, OperatingPoint(1.0, "weights", 0.3), mult, noise_seed=7)
        clean, robust = ends(net, width, 7)
        for unit, x, out in looked_into(net, network, images(model)):
            assert torch.allclose(out, 0.7 * unit(x, clean) + 0.3 * unit(x, robust), rtol=1e-9, atol=1e-9)


@torch.no_grad()
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("blend", ["weights", "outputs"])
def test_the_ends_of_a_blend_are_exact(tiny: Any, method: str, blend: Any) -> None:
    net, x = shaken(tiny, method).float(), images().float()
    for mult in net.width_mults:
        for t in (0.0, 1.0):
            assert torch.equal(network_at(net, OperatingPoint(1.0, blend, t), mult, 7)(x), AtLambda(net, t, mult, 7)(x))


@torch.no_grad()
@pytest.mark.parametrize("method", METHODS)
def test_outputs_blend_is_the_mean_of_probabilities(tiny: Any, method: str) -> None:
    net, x = shaken(tiny, method), images()
    clean, robust = (AtLambda(net, lam, noise_seed=7)(x).softmax(1) for lam in (0.0, 1.0))
    found = network_at(net, OperatingPoint(1.0, "outputs", 0.3), noise_seed=7)(x)
    assert torch.allclose(found.exp(), 0.7 * clean + 0.3 * robust, rtol=1e-9, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("method", ["float", "oats", "smart"])
def test_weights_cost_one_network_and_outputs_two(tiny: Any, method: str) -> None:
    net = shaken(tiny, method).float()
    lows, highs = (cost_at(net, lam, 0, 8) for lam in (0.0, 1.0))
    weights, outputs = (cost_at(net, OperatingPoint(1.0, blend, 0.5), 0, 8) for blend in ("weights", "outputs"))
    network = network_at(net, OperatingPoint(1.0, "weights", 0.5))
    with FlopCounterMode(display=False) as counter:
        network(images().float()[:1])
    assert weights.dense_flops == lows.dense_flops == counter.get_total_flops()
    assert (outputs.flops, outputs.dense_flops) == (lows.flops + highs.flops, 2 * lows.dense_flops)


@torch.no_grad()
def test_smart_blend_has_the_union_of_masks(tiny: Any) -> None:
    net = shaken(tiny, "smart")
    masks = [layer for layer in net.modules() if isinstance(layer, MaskedConv2d)]
    kept = sum(int((layer.clean_mask | layer.adv_mask).sum()) for layer in masks)
    classifier = sum(head.weight.numel() for head in net.modules() if isinstance(head, nn.Linear))
    assert cost_at(net, OperatingPoint(1.0, "weights", 0.5), 0, 8).nonzeros == kept + classifier


def test_an_attack_follows_the_gradient_of_the_blend(tiny: Any) -> None:
    net, x, y = shaken(tiny, "float").requires_grad_(False), images(), torch.arange(4)
    network = network_at(net, OperatingPoint(1.0, "weights", 0.5))
    attack = AttackConfig(epsilon=1e-6, step_size=1e-6, num_steps=1, random_start=False)
    leaf = x.clone().requires_grad_()
    nn.functional.cross_entropy(network(leaf), y, reduction="sum").backward()
    moved = pgd(lambda at, step: network(at), x, y, attack, torch.zeros_like(x))
    wanted = (x + 1e-6 * leaf.grad.sign()).clamp(0, 1)  # type: ignore[union-attr]
    assert torch.allclose(moved, wanted, rtol=0, atol=1e-9)


class Scaled(nn.Module):
    """A linear classifier of two colours whose logits are large, or small and of another opinion."""

    def __init__(self, scale: float, direction: Tensor) -> None:
        super().__init__()
        self.scale, self.direction = scale, direction

    def forward(self, x: Tensor) -> Tensor:
        found = self.scale * ((x - 0.5) * self.direction).flatten(1).sum(1)
        return torch.stack([found, -found], 1)


def masked_mix() -> tuple[OutputBlend, Tensor, Tensor]:
    """A mix of logits on scales 1 and 100: where the steep one saturates, hardly a gradient is left."""
    source = torch.Generator().manual_seed(3)
    direction = torch.randn(3, 4, 4, generator=source)
    steep, flat = Scaled(100.0, direction), Scaled(1.0, torch.randn(3, 4, 4, generator=source))
    x = (0.5 + 0.2 * torch.randn(256, 3, 4, 4, generator=source)).clamp(0.05, 0.95)
    mix = OutputBlend(steep, flat, 0.05)
    return mix, x, mix(x).argmax(1)


def test_a_mix_that_masks_gradients_is_flagged() -> None:
    mix, x, y = masked_mix()
    attack = AttackConfig(epsilon=0.1, step_size=0.02, num_steps=20)
    assert diagnose(mix, x, y, attack, 0, FULL).warned


def test_surrogates_break_a_mix_that_masks_gradients() -> None:
    mix, x, y = masked_mix()
    attack = AttackConfig(epsilon=0.1, step_size=0.02, num_steps=20)
    alone = torch.ones_like(y, dtype=torch.bool)
    alone = adaptive(mix, mix, x, y, alone, PGD, attack, example_seeds(0, range(256))) == ROBUST
    worst = alone
    for network in surrogate_networks(mix):
        worst = adaptive(network, mix, x, y, worst, PGD, attack, example_seeds(0, range(256))) == ROBUST
    assert float(worst.float().mean()) < float(alone.float().mean()) - 0.2


def test_gradients_survive_where_one_end_is_certain(tiny: Any) -> None:
    direction = torch.ones(3, 4, 4)
    mix, x = OutputBlend(Scaled(1.0, direction), Scaled(1e3, direction), 0.5), torch.full((1, 3, 4, 4), 0.6)
    leaf = x.requires_grad_()
    mix(leaf)[0, 1].backward()
    assert leaf.grad is not None and math.isfinite(float(leaf.grad.abs().sum())) and bool((leaf.grad != 0).all())


def test_a_blend_of_one_path_is_refused(tiny: Any) -> None:
    net = build_model(tiny("pgd_at")).eval()
    with pytest.raises(ConfigError, match=r"^dial=weights: this network has one path.*valid: switch$"):
        distcond.AtDial(net, 0.5)
    assert torch.equal(distcond.AtDial(net, 1.0, "switch")(images().float()), AtLambda(net, 1.0)(images().float()))


@pytest.mark.parametrize("rule", ["switch", "weights", "outputs"])
@pytest.mark.parametrize("dial", [-0.1, 1.5, math.nan])
def test_a_dial_outside_its_range_is_refused(rule: str, dial: float) -> None:
    with pytest.raises(ConfigError, match=r"^dial=[\w.-]+: must be in \[0, 1\]$"):
        point_on_dial(rule, dial)


def test_the_robust_end_is_on_the_robust_path(tiny: Any) -> None:
    net = build_model(tiny("smart")).eval()
    with pytest.raises(ConfigError, match=r"^dial_lam=0\.5: is on the clean path"):
        network_at(net, OperatingPoint(0.5, "weights", 0.5))
    with pytest.raises(ConfigError, match=r"^lam=0: the robust end of a blend must be above 0$"):
        network_at(net, OperatingPoint(0.0, "outputs", 0.5))


@torch.no_grad()
def test_the_robust_end_may_be_any_lam(tiny: Any) -> None:
    net, x = shaken(tiny, "float"), images()
    assert torch.equal(distcond.AtDial(net, 1.0, lam=0.2)(x), AtLambda(net, 0.2)(x))
    assert not torch.equal(distcond.AtDial(net, 0.5, lam=0.2)(x), distcond.AtDial(net, 0.5)(x))
