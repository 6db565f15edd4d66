"""Two masks over one weight, and noise on kept weights only."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from distcond.layers.condition import Condition
from distcond.layers.masked import MaskedConv2d, MaskedNoisyConv2d, kept_std
from distcond.layers.noisy import NoisyConv2d
from distcond.layers.plain import Conv2d


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


X = draw(4, 3, 6, 6, seed=2)
NOISE = draw(5 * 3 * 9, seed=1)
ROUTE = torch.tensor([True, False, False, True])
CLEAN, ADV = Condition(torch.zeros(1), False), Condition(torch.ones(1), True)


def two_paths(stride: int = 1) -> MaskedConv2d:
    torch.manual_seed(0)
    layer = MaskedConv2d(3, 5, 3, stride)
    layer.clean_mask.copy_(draw(5, 3, 3, 3, seed=3) > 0)
    layer.adv_mask.copy_(draw(5, 3, 3, 3, seed=4) > 0)
    return layer


@pytest.mark.parametrize("stride", [1, 2])
def test_each_path_uses_its_own_masked_weight(stride: int) -> None:
    layer = two_paths(stride)
    for cond, mask in ((CLEAN, layer.clean_mask), (ADV, layer.adv_mask)):
        wanted = F.conv2d(X, layer.weight * mask, stride=stride, padding=1)
        assert torch.equal(layer(X, cond), wanted)
        assert torch.equal(layer.effective_weight(cond), layer.weight * mask)
    assert not torch.equal(layer(X, CLEAN), layer(X, ADV))


def test_mixed_rows_equal_the_rows_of_each_kind() -> None:
    layer = two_paths()
    mixed = layer(X, Condition(torch.ones(4), ROUTE))
    assert torch.allclose(mixed[ROUTE], layer(X[ROUTE], ADV), atol=1e-6)
    assert torch.allclose(mixed[~ROUTE], layer(X[~ROUTE], CLEAN), atol=1e-6)


def test_full_masks_are_no_masks_bit_for_bit() -> None:
    torch.manual_seed(0)
    layer, plain = MaskedConv2d(3, 5), Conv2d(3, 5)
    plain.load_state_dict({"weight": layer.weight})
    for cond in (CLEAN, ADV, Condition(torch.ones(4), ROUTE)):
        assert torch.equal(layer(X, cond), plain(X, cond))


@pytest.mark.parametrize("by_row", [False, True])
def test_dense_gradients_are_each_paths_without_its_mask(by_row: bool) -> None:
    layer = two_paths()
    layer.dense_gradients = {path: torch.zeros_like(layer.weight) for path in (False, True)}
    target = draw(4, 5, 6, 6, seed=5)
    if by_row:
        (layer(X, Condition(torch.ones(4), ROUTE)) * target).sum().backward()
    else:
        loss = (layer(X[~ROUTE], CLEAN) * target[~ROUTE]).sum() + (layer(X[ROUTE], ADV) * target[ROUTE]).sum()
        loss.backward()
    dense = {}
    for path, rows, mask in ((False, ~ROUTE, layer.clean_mask), (True, ROUTE, layer.adv_mask)):
        weight = (layer.weight * mask).detach().requires_grad_()
        (F.conv2d(X[rows], weight, padding=1) * target[rows]).sum().backward()
        assert weight.grad is not None
        dense[path] = weight.grad
        assert torch.allclose(layer.dense_gradients[path], dense[path], atol=1e-4)
        assert (layer.dense_gradients[path][~mask] != 0).any()
    assert layer.weight.grad is not None
    wanted = dense[False] * layer.clean_mask + dense[True] * layer.adv_mask
    assert torch.allclose(layer.weight.grad, wanted, atol=1e-4)


def test_dense_gradients_add_up_and_only_in_training() -> None:
    layer = two_paths()
    layer.dense_gradients = {path: torch.zeros_like(layer.weight) for path in (False, True)}
    layer(X, ADV).sum().backward()
    once = layer.dense_gradients[True].clone()
    layer(X, ADV).sum().backward()
    assert torch.allclose(layer.dense_gradients[True], 2 * once)
    # Watching a gradient does not change it.
    assert layer.weight.grad is not None
    assert torch.allclose(layer.weight.grad, 2 * once * layer.adv_mask)
    assert (layer.dense_gradients[False] == 0).all()
    layer.eval()
    layer(X, ADV).sum().backward()
    assert torch.allclose(layer.dense_gradients[True], 2 * once)


def test_one_weight_for_mixed_rows_is_refused() -> None:
    with pytest.raises(AssertionError, match="one route per pass"):
        two_paths().effective_weight(Condition(torch.ones(4), ROUTE))


def test_masks_are_saved_and_moved_but_not_trained() -> None:
    layer = two_paths()
    assert {name for name, _ in layer.named_parameters()} == {"weight"}
    other = MaskedConv2d(3, 5)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other.adv_mask, layer.adv_mask)
    moved = layer.to(device="meta", dtype=torch.float64)
    assert moved.clean_mask.dtype == torch.bool
    assert moved.clean_mask.device.type == "meta"


def masked_noise() -> tuple[MaskedNoisyConv2d, Tensor]:
    torch.manual_seed(0)
    layer = MaskedNoisyConv2d(3, 5, alpha=0.5)
    mask = draw(5, 3, 3, 3, seed=3) > 0.5
    layer.mask.copy_(mask)
    with torch.no_grad():
        layer.weight.mul_(mask)
    return layer, mask


def test_deviation_counts_the_kept_weights_alone() -> None:
    layer, mask = masked_noise()
    weight = layer.weight.detach() + 0.3 * mask
    assert torch.allclose(kept_std(weight, mask), weight[mask].std(), rtol=1e-5)
    assert kept_std(weight, mask) > 1.05 * weight.std() or kept_std(weight, mask) < 0.95 * weight.std()
    assert kept_std(weight, torch.zeros_like(mask)) == 0
    one = torch.zeros_like(mask)
    one[0, 0, 0, 0] = True
    assert kept_std(weight, one) == 0


def test_noise_falls_on_kept_weights_only() -> None:
    layer, mask = masked_noise()
    found = layer.effective_weight(Condition(torch.ones(1), True, noise=NOISE))
    assert torch.equal(found != 0, mask)
    wanted = layer.weight + 0.5 * NOISE.view_as(layer.weight) * mask * layer.weight.detach()[mask].std()
    assert torch.allclose(found, wanted, atol=1e-6)


def test_noise_per_row_equals_noise_per_pass() -> None:
    layer, _ = masked_noise()
    lam = torch.tensor([0.0, 0.3, 0.7, 1.0])
    rows = layer(X, Condition(lam, True, noise=NOISE))
    for row, value in enumerate(lam):
        alone = layer(X[row : row + 1], Condition(value[None], True, noise=NOISE))
        assert torch.allclose(rows[row : row + 1], alone, atol=1e-5)


def test_a_full_mask_is_floats_noise() -> None:
    torch.manual_seed(0)
    layer, plain = MaskedNoisyConv2d(3, 5), NoisyConv2d(3, 5)
    plain.load_state_dict({name: tensor for name, tensor in layer.state_dict().items() if name != "mask"})
    cond = Condition(torch.ones(1), True, noise=NOISE)
    assert torch.allclose(layer(X, cond), plain(X, cond), atol=1e-6)
    assert torch.equal(layer(X, CLEAN), plain(X, CLEAN))
