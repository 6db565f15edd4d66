"""A folded network is the network: every model, every method, noise included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from distcond.condition import Condition
from distcond.engine.build import build_model
from distcond.layers.conv_norm import ConvNorm
from distcond.layers.film import FiLM
from distcond.layers.layer_set import LayerSet, noisy
from distcond.models.conditional import ConditionalModel
from distcond.registry import table


@pytest.fixture
def network(tiny: Any) -> Callable[..., ConditionalModel]:
    """A network whose statistics are no longer those of the start, in eval mode."""

    def made(method: str, model: str = "small_cnn") -> ConditionalModel:
        net = build_model(tiny(method, model))
        source = torch.Generator().manual_seed(1)
        for name, tensor in net.backbone.state_dict().items():
            if ".norm" in name and tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=source))
        return net.eval()

    return made


def images(n: int = 4) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("model", table("model"))
@pytest.mark.parametrize("method", table("method"))
def test_folded_is_unfolded(network: Any, method: str, model: str, lam: float) -> None:
    net = network(method, model)
    for width in range(len(net.width_mults)):
        cond = net.condition(lam, width=width, noise=net.draw_noise(3))
        folded = net.fold(cond)
        assert folded.folded is not None
        assert torch.allclose(net(images(), folded), net(images(), cond), atol=1e-5)


def test_what_is_folded_is_used_in_place_of_the_weights(network: Any) -> None:
    net = network("float")
    folded = net.fold(net.condition(1.0, noise=net.draw_noise(3)))
    wanted = net(images(), folded)
    with torch.no_grad():
        for unit in net.backbone.units:
            unit.conv.weight.zero_()
    assert torch.equal(net(images(), folded), wanted)


def test_folding_takes_the_number_format_asked_for(network: Any) -> None:
    net = network("float")
    folded = net.fold(net.condition(1.0, noise=net.draw_noise(3)), torch.bfloat16).folded
    assert folded is not None
    assert {dtype for part in folded for dtype in (part.weight.dtype, part.bias.dtype)} == {torch.bfloat16}


def test_folding_rows_of_both_kinds_is_a_mistake(network: Any) -> None:
    net = network("float")
    with pytest.raises(AssertionError, match="one route per pass"):
        net.fold(net.condition(torch.tensor([0.0, 1.0])))


@pytest.mark.parametrize("modulated", [True, False])
def test_a_modulation_folds_too_and_one_per_row_stays_beside(modulated: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unit = ConvNorm(noisy()._replace(modulate=FiLM), 3, 4, modulated=modulated).eval()
    noise = torch.randn(3 * 4 * 9, generator=torch.Generator().manual_seed(1))
    uniform = Condition(torch.tensor([0.5]), True, noise=noise, code=torch.tensor([[0.5]]))
    folded = uniform._replace(folded=(unit.fold(uniform, torch.float32),), noise=None, code=None)
    assert torch.allclose(unit(images(), folded), unit(images(), uniform), atol=1e-5)
    lam = torch.tensor([0.1, 0.2, 0.3, 0.4])
    rows = Condition(lam, True, code=lam[:, None])
    folded = rows._replace(folded=(unit.fold(rows, torch.float32),), code=None)
    assert torch.allclose(unit(images(), folded), unit(images(), rows), atol=1e-5)


def test_a_layer_set_says_what_it_makes() -> None:
    layers = noisy()
    assert isinstance(layers, LayerSet)
    assert set(LayerSet._fields) == {"conv", "norm", "modulate", "linear"}
