"""Folding keeps the logits: every model, every method, noise included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from distcond.layers.condition import Condition
from distcond.layers.film import FiLM
from distcond.layers.folding import ConvNorm, ConvUnit, NormUnit
from distcond.layers.layer_set import LayerSet, film_layers, noisy_layers
from distcond.models.conditional import ConditionalModel
from distcond.registry import table
from distcond.runs.build import build_model


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
@pytest.mark.parametrize("method", table("method"))
def test_folding_keeps_the_logits(network: Any, method: str, lam: float) -> None:
    # Every network of every set of layers: tests/models/test_every_model.py.
    net = network(method)
    for width in range(len(net.width_mults)):
        cond = net.condition(lam, width=width, noise=net.draw_noise(3))
        folded = net.fold(cond)
        assert folded.folded is not None
        assert torch.allclose(net(images(), folded), net(images(), cond), atol=1e-5)


@pytest.mark.parametrize("method", ["float", "pgd_at", "smart", "float_slim"])
@pytest.mark.parametrize("model", ["small_cnn", "preact_resnet18"])
def test_folded_weights_replace_the_layers_own(network: Any, model: str, method: str) -> None:
    net = network(method, model)
    folded = net.fold(net.condition(1.0, noise=net.draw_noise(3)))
    wanted = net(images(), folded)
    with torch.no_grad():
        for unit in net.units:
            for parameter in unit.parameters():
                parameter.zero_()
    assert wanted.any()
    assert torch.equal(net(images(), folded), wanted)


@pytest.mark.parametrize("model", ["small_cnn", "preact_resnet18"])
def test_folding_uses_the_given_dtype(network: Any, model: str) -> None:
    net = network("float", model)
    folded = net.fold(net.condition(1.0, noise=net.draw_noise(3)), torch.bfloat16).folded
    assert folded is not None
    tensors = [tensor for part in folded for tensor in (part.weight, part.bias) if tensor is not None]
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}


def test_folding_mixed_rows_is_refused(network: Any) -> None:
    net = network("float")
    with pytest.raises(AssertionError, match="one route per pass"):
        net.fold(net.condition(torch.tensor([0.0, 1.0])))


@pytest.mark.parametrize("modulated", [True, False])
def test_modulation_folds_unless_it_is_per_row(modulated: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unit = ConvNorm(noisy_layers()._replace(modulate=FiLM), 3, 4, modulated=modulated).eval()
    noise = torch.randn(3 * 4 * 9, generator=torch.Generator().manual_seed(1))
    uniform = Condition(torch.tensor([0.5]), True, noise=noise, code=torch.tensor([[0.5]]))
    folded = uniform._replace(folded=(unit.fold(uniform, torch.float32),), noise=None, code=None)
    assert torch.allclose(unit(images(), folded), unit(images(), uniform), atol=1e-5)
    lam = torch.tensor([0.1, 0.2, 0.3, 0.4])
    rows = Condition(lam, True, code=lam[:, None])
    folded = rows._replace(folded=(unit.fold(rows, torch.float32),), code=None)
    assert torch.allclose(unit(images(), folded), unit(images(), rows), atol=1e-5)


@pytest.mark.parametrize("modulated", [True, False])
def test_a_normalisation_alone_folds_into_one_affine(modulated: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unit = NormUnit(film_layers(1), 3, modulated=modulated).eval()
    for number, tensor in enumerate(unit.norm.state_dict().values()):
        if tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=torch.Generator().manual_seed(number)))
    lam = torch.tensor([0.1, 0.2, 0.3, 0.4])
    for route in (False, True):
        for values in (lam[:1], lam):
            cond = Condition(values, route, code=values[:, None])
            folded = unit.fold(cond, torch.float32)
            assert folded.weight.shape == (len(values) if modulated else 1, 3)
            again = cond._replace(folded=(folded,), code=None)
            assert torch.allclose(unit(images(), again), unit(images(), cond), atol=1e-5)


def test_a_bare_convolution_folds_without_bias() -> None:
    unit = ConvUnit(noisy_layers(), 3, 4)
    cond = Condition(torch.tensor([0.5]), True, noise=torch.randn(3 * 4 * 9))
    folded = unit.fold(cond, torch.float32)
    assert folded.bias is None
    assert torch.allclose(unit(images(), cond._replace(folded=(folded,))), unit(images(), cond), atol=1e-5)
    assert not torch.equal(folded.weight, unit.conv.weight)
    bare = unit.fold(cond._replace(noise=None), torch.float32).weight
    assert torch.equal(bare, unit.conv.weight)
    assert bare.data_ptr() != unit.conv.weight.data_ptr()


def test_units_and_noise_are_numbered_through_the_network(network: Any) -> None:
    net = network("float", "preact_resnet18")
    assert [unit.index for unit in net.units] == list(range(len(net.units)))
    assert {type(unit) for unit in net.units} == {ConvNorm, ConvUnit, NormUnit}
    convolutions = [unit.conv for unit in net.units if not isinstance(unit, NormUnit)]
    starts = [conv.noise_start for conv in convolutions]
    assert starts[1:] == [conv.noise_start + conv.weight.numel() for conv in convolutions[:-1]]
    assert net.noise_size == starts[-1] + convolutions[-1].weight.numel()


def test_layer_sets_make_their_layers() -> None:
    layers = noisy_layers()
    assert isinstance(layers, LayerSet)
    assert set(LayerSet._fields) == {"conv", "norm", "modulate", "linear"}
