"""Slimmable layers: a width is the dense network of the first channels, with statistics of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distcond.layers.condition import Condition
from distcond.layers.film import FiLM
from distcond.layers.layer_set import (
    LayerSet,
    SlimmableWidths,
    film_layers,
    noisy_layers,
    slimmable_film_layers,
    slimmable_noisy_layers,
)
from distcond.layers.noisy import NoisyConv2d
from distcond.layers.slimmable import NoisySlimmableConv2d, SlimmableConv2d, SlimmableFiLM, channels_at_widths
from distcond.models.conditional import ConditionalModel
from distcond.models.resnet import ResNet

MULTS = (1.0, 0.75, 0.5)
PLANES = (8, 16)


def seeded(make: Callable[[], Any]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def resnet(layers: LayerSet, planes: tuple[int, ...] = PLANES) -> ConditionalModel:
    net = seeded(lambda: ResNet(layers, 10, (1, 1), planes))
    source = torch.Generator().manual_seed(2)
    for name, tensor in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=source))
    return ConditionalModel(net, width_mults=MULTS)


def test_channels_round_down_and_image_channels_stay() -> None:
    assert channels_at_widths(64, MULTS) == (64, 48, 32)
    assert channels_at_widths(100, (1.0, 0.29)) == (100, 29)
    assert channels_at_widths(5, (1.0, 0.5, 0.01)) == (5, 2, 1)
    assert channels_at_widths(3, MULTS) == (3, 3, 3)


def narrow_state(slim: ConditionalModel, thin: nn.Module, width: int, concatenated: bool) -> dict[str, Tensor]:
    """The state of the dense network `thin`: of everything in `slim` the first channels, and the width's own norms."""
    whole, state = slim.state_dict(), {}
    for name, like in thin.state_dict().items():
        source = whole[name.replace(".norm.", f".norm.norms.{width}.")]
        if ".modulate.out." in name and not concatenated:
            scale, shift = source.chunk(2)
            source = torch.cat([scale[: len(like) // 2], shift[: len(like) // 2]])
        state[name] = source[tuple(slice(size) for size in like.shape)]
    return state


@pytest.mark.parametrize("concatenated", [False, True])
@pytest.mark.parametrize("width", [0, 1, 2])
def test_oats_width_equals_the_sliced_dense_network(width: int, concatenated: bool) -> None:
    slim = resnet(slimmable_film_layers(SlimmableWidths(MULTS), 4, concatenated=concatenated))
    thin = resnet(film_layers(4), tuple(channels_at_widths(planes, MULTS)[width] for planes in PLANES))
    thin.load_state_dict(narrow_state(slim, thin, width, concatenated))
    code, route = draw(6, 4), torch.tensor([False, False, True, True, True, True])
    cond = Condition(torch.rand(6), route, width, code=code)
    x = draw(6, 3, 8, 8)
    assert torch.allclose(slim(x, cond), thin(x, cond._replace(width=0)), atol=1e-5)
    assert torch.allclose(slim.eval()(x, cond), thin.eval()(x, cond._replace(width=0)), atol=1e-5)


@pytest.mark.parametrize("width", [0, 1, 2])
def test_slim_float_width_equals_the_sliced_noisy_network(width: int) -> None:
    slim = resnet(slimmable_noisy_layers(SlimmableWidths(MULTS)))
    thin = resnet(noisy_layers(), tuple(channels_at_widths(planes, MULTS)[width] for planes in PLANES))
    thin.load_state_dict(narrow_state(slim, thin, width, False))
    cond = slim.condition(0.7, width=width, noise=slim.draw_noise(1))
    for wide, dense in zip(_convs(slim), _convs(thin), strict=True):
        noise = wide.scaled_noise(cond.noise)[tuple(slice(size) for size in dense.weight.shape)]
        dense.weight.data += 0.7 * wide.alpha.detach() * noise
    x = draw(6, 3, 8, 8)
    assert torch.allclose(slim(x, cond), thin(x, cond._replace(width=0, noise=None)), atol=1e-5)


def _convs(model: nn.Module) -> list[NoisyConv2d]:
    return [module for module in model.modules() if isinstance(module, NoisyConv2d)]


def test_noise_spread_is_the_full_widths() -> None:
    conv = seeded(lambda: NoisySlimmableConv2d(8, 8, width_mults=(1.0, 0.5)))
    with torch.no_grad():
        conv.weight[4:] *= 10
    noise = torch.ones(conv.weight.numel())
    effective = conv.effective_weight(Condition(torch.ones(1), True, 1, noise=noise))
    assert effective.shape == (4, 4, 3, 3)
    assert torch.allclose(effective - conv.weight[:4, :4], 0.25 * conv.weight.std().expand(4, 4, 3, 3), atol=1e-5)


def test_row_noise_equals_pass_noise_at_every_width() -> None:
    conv = seeded(lambda: NoisySlimmableConv2d(8, 8, width_mults=(1.0, 0.5)))
    noise, x = draw(conv.weight.numel()), draw(4, 4, 6, 6)
    whole = conv(x, Condition(torch.tensor([0.3]), True, 1, noise=noise))
    assert torch.allclose(conv(x, Condition(torch.full((4,), 0.3), True, 1, noise=noise)), whole, atol=1e-5)


@pytest.mark.parametrize(("concatenated", "shift_rows"), [(False, slice(8, 12)), (True, slice(4, 8))])
def test_film_is_sliced_in_two_ways(concatenated: bool, shift_rows: slice) -> None:
    slim: SlimmableFiLM = seeded(lambda: SlimmableFiLM(8, 3, width_mults=(1.0, 0.5), concatenated=concatenated))
    thin = FiLM(4, 3)
    rows = torch.cat([torch.arange(4), torch.arange(16)[shift_rows]])
    thin.load_state_dict({
        "hidden.weight": slim.hidden.weight[:8], "hidden.bias": slim.hidden.bias[:8],
        "out.weight": slim.out.weight[rows, :8], "out.bias": slim.out.bias[rows],
    })  # fmt: skip
    cond = Condition(torch.ones(5), True, 1, code=draw(5, 3))
    x = draw(5, 4, 2, 2)
    assert torch.allclose(slim(x, cond), thin(x, cond), atol=1e-6)


def test_a_width_moves_its_own_statistics_only() -> None:
    model = resnet(slimmable_film_layers(SlimmableWidths(MULTS), 4))
    before = {name: tensor.clone() for name, tensor in model.named_buffers()}
    model(draw(6, 3, 8, 8), Condition(torch.ones(1), True, 1, code=draw(1, 4)))
    moved = {name for name, tensor in model.named_buffers() if not torch.equal(tensor, before[name])}
    assert moved
    assert all(".norms.1.adv." in name for name in moved)


def test_classifiers_are_shared_or_per_width() -> None:
    one, each = (resnet(slimmable_film_layers(SlimmableWidths(MULTS, shared), 4)) for shared in (True, False))
    assert [p.shape for p in one.backbone.linear.parameters()] == [(10, 16), (10,)]
    shapes = [(10, 16), (10,), (10, 12), (10,), (10, 8), (10,)]
    assert [p.shape for p in each.backbone.linear.parameters()] == shapes
    cond = Condition(torch.ones(1), True, 2, code=draw(1, 4))
    each(draw(6, 3, 8, 8), cond).sum().backward()
    assert [p.grad is not None for p in each.backbone.linear.parameters()] == [False] * 4 + [True] * 2


def test_a_stem_reads_every_colour_at_every_width() -> None:
    stem = SlimmableConv2d(3, 8, width_mults=MULTS)
    shapes = [stem(draw(1, 3, 4, 4), Condition(torch.ones(1), True, width)).shape[1] for width in range(3)]
    assert shapes == [8, 6, 4]
