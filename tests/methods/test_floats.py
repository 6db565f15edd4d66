"""FLOATS: FLOAT's step on a sparse network of constant density."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from distcond.errors import ConfigError
from distcond.layers.masked import MaskedNoisyConv2d
from distcond.layers.noisy import NoisyConv2d
from distcond.methods.float import METHOD as FLOAT
from distcond.methods.floats import METHOD
from distcond.models.conditional import AtLambda, ConditionalModel
from distcond.runs.build import build_model


def started(config: Any) -> ConditionalModel:
    model = build_model(config)
    masks = METHOD.sparsity(config, model)
    assert masks is not None
    masks.start("train")
    return model


def effective(model: ConditionalModel, lam: float) -> list[torch.Tensor]:
    """What the convolutions of a network held at lam multiply with."""
    network = AtLambda(model.eval(), lam)
    return [getattr(network, f"weight_{index}") for index in range(network.num_folded)]


@pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
def test_the_network_is_as_sparse_at_every_lam(tiny: Any, lam: float) -> None:
    weights = effective(started(tiny("floats", method__density=0.3)), lam)
    total = sum(weight.numel() for weight in weights)
    assert sum(int((weight != 0).sum()) for weight in weights) == int(0.3 * total + 0.5)


def test_dense_noise_is_sparse_at_zero_only(tiny: Any) -> None:
    model = started(tiny("floats", method__density=0.3, method__dense_noise=True))
    assert any((weight == 0).any() for weight in effective(model, 0.0))
    assert all((weight != 0).all() for weight in effective(model, 1.0))


def test_density_one_is_float(tiny: Any) -> None:
    config = tiny("floats", method__density=1)
    model = build_model(config)
    assert METHOD.sparsity(config, model) is None
    assert not any(isinstance(layer, MaskedNoisyConv2d) for layer in model.modules())
    dense = build_model(tiny("float"))
    assert dense.state_dict().keys() == model.state_dict().keys()
    assert METHOD.objective(config.method) is FLOAT.objective(config.method)


def test_the_classifier_stays_dense(tiny: Any) -> None:
    model = started(tiny("floats", method__density=0.1))
    linear = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert linear
    assert all((layer.weight != 0).all() for layer in linear)
    assert all((layer.weight == 0).any() for layer in model.modules() if isinstance(layer, NoisyConv2d))


def test_masks_are_saved_with_the_network(tiny: Any) -> None:
    config = tiny("floats", method__density=0.3)
    model, again = started(config), build_model(config)
    again.load_state_dict(model.state_dict())
    x = torch.rand(3, 3, 8, 8)
    assert torch.equal(AtLambda(again.eval(), 1.0)(x), AtLambda(model.eval(), 1.0)(x))


def test_channels_are_switched_as_one(tiny: Any) -> None:
    model = started(tiny("floats", method__density=0.5, method__by="channel"))
    for layer in model.modules():
        if isinstance(layer, MaskedNoisyConv2d):
            on = layer.mask.flatten(2).transpose(0, 1).flatten(1)
            assert (on.all(1) | ~on.any(1)).all()


@pytest.mark.parametrize("density", [0, -0.1, 1.1])
def test_a_density_outside_the_unit_interval_is_refused(tiny: Any, density: float) -> None:
    with pytest.raises(ConfigError, match=r"method.density="):
        tiny("floats", method__density=density)


def test_training_without_momentum_is_refused(tiny: Any) -> None:
    config = tiny("floats", optim__momentum=0)
    with pytest.raises(ConfigError, match=r"optim.momentum=0: "):
        METHOD.sparsity(config, build_model(config))


def test_a_network_without_the_methods_layers_is_refused(tiny: Any) -> None:
    with pytest.raises(ConfigError, match=r"model: .*NoisyConv2d"):
        METHOD.sparsity(tiny("floats"), build_model(tiny("pgd_at")))
