"""Masks applied after the optimiser: dropped weights stay zero, momentum only with the optimiser."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from distcond.errors import ConfigError
from distcond.layers.masked import MaskedNoisyConv2d
from distcond.sparsity.masked_weights import MaskedWeights
from distcond.sparsity.masks import count_kept, largest_masks, layers_by_weight


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), MaskedNoisyConv2d(4, 4))


def step(model: nn.Module) -> torch.optim.SGD:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    return optimiser


def test_without_masks_nothing_happens() -> None:
    model = network()
    masked = MaskedWeights(layers_by_weight(model))
    before = model[0].weight.clone()
    masked.apply_masks()
    assert torch.equal(model[0].weight, before)
    assert masked.density() == 1.0


def test_setting_masks_zeroes_weights_and_masks_noise() -> None:
    model = network()
    masked = MaskedWeights(layers_by_weight(model))
    assert masked.num_weights == 3 * 4 * 9 + 4 * 4 * 9
    before = [layer.weight.detach().clone() for layer in model]
    masks = largest_masks(masked.weights, 50)
    masked.set_masks(masks)
    for layer, weight, mask in zip(model, before, masks.values(), strict=True):
        assert torch.equal(layer.weight, weight * mask)
    assert torch.equal(model[1].mask, masks["1.weight"])
    assert sum(count_kept(masked.masks).values()) == 50
    assert masked.density() == 50 / masked.num_weights


@pytest.mark.parametrize("masks_momentum", [True, False])
def test_a_step_leaves_dropped_weights_at_zero(masks_momentum: bool) -> None:
    model = network()
    masked = MaskedWeights(layers_by_weight(model))
    masked.set_masks(largest_masks(masked.weights, 50))
    optimiser = step(model)
    assert (model[0].weight[~masked.masks["0.weight"]] != 0).all()
    masked.apply_masks(optimiser if masks_momentum else None)
    for name, weight in masked.weights.items():
        free = ~masked.masks[name]
        assert (weight[free] == 0).all()
        assert (weight[~free] != 0).all()
        assert weight.grad is not None
        assert (weight.grad != 0).all()
        momentum = optimiser.state[weight]["momentum_buffer"]
        assert bool((momentum[free] == 0).all()) is masks_momentum
        assert (momentum[~free] == 1).all()


def test_masks_of_another_network_are_refused() -> None:
    masked = MaskedWeights(layers_by_weight(network()))
    with pytest.raises(ConfigError, match=r"^masks "):
        masked.load_state_dict({"0.weight": torch.ones(4, 3, 3, 3, dtype=torch.bool)})


def test_saved_masks_apply_after_loading() -> None:
    model = network()
    masked = MaskedWeights(layers_by_weight(model))
    masked.set_masks(largest_masks(masked.weights, 50))
    other = network()
    again = MaskedWeights(layers_by_weight(other))
    again.load_state_dict(masked.state_dict())
    again.apply_masks()
    assert torch.equal(other[1].weight, model[1].weight)
    assert torch.equal(other[1].mask, model[1].mask)
