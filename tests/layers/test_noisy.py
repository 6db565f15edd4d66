"""FLOAT's weight noise: scaled by lam, absent at 0, with the spread of the weights, linear in the amplitude."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.layers.condition import Condition
from distcond.layers.folding import assign_indices
from distcond.layers.layer_set import LayerSet, noisy_layers
from distcond.layers.noisy import Amplitude, NoisyConv2d
from distcond.layers.plain import Conv2d


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(stride: int = 1) -> NoisyConv2d:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NoisyConv2d(3, 5, 3, stride, alpha=0.25)


NOISE = draw(3 * 5 * 9, seed=1)
X = draw(4, 3, 6, 6, seed=2)


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("stride", [1, 2])
def test_one_amplitude_equals_that_amplitude_per_row(lam: float, stride: int) -> None:
    conv = layer(stride)
    whole = conv(X, Condition(torch.tensor([lam]), True, noise=NOISE))
    rows = conv(X, Condition(torch.full((4,), lam), True, noise=NOISE))
    assert torch.allclose(whole, rows, atol=1e-5)
    for a, b in zip(
        torch.autograd.grad(whole.square().sum(), list(conv.parameters())),
        torch.autograd.grad(rows.square().sum(), list(conv.parameters())),
        strict=True,
    ):
        assert torch.allclose(a, b, atol=1e-3, rtol=1e-4)


def test_every_row_has_its_own_amplitude() -> None:
    lam = torch.tensor([0.0, 0.2, 0.7, 1.0])
    rows = layer()(X, Condition(lam, True, noise=NOISE))
    for n in range(4):
        alone = layer()(X[n : n + 1], Condition(lam[n : n + 1], True, noise=NOISE))
        assert torch.allclose(rows[n : n + 1], alone, atol=1e-5)


def test_zero_amplitude_is_the_plain_convolution_exactly() -> None:
    plain = Conv2d(3, 5)
    plain.load_state_dict({"weight": layer().weight})
    wanted = plain(X, Condition(torch.zeros(1), False))
    assert torch.equal(layer()(X, Condition(torch.zeros(1), False, noise=NOISE)), wanted)
    assert torch.equal(layer()(X, Condition(torch.zeros(4), False, noise=NOISE)), wanted)
    assert torch.equal(layer()(X, Condition(torch.ones(1), True, noise=None)), wanted)


def test_the_noise_has_the_spread_of_the_weights() -> None:
    conv = layer()
    eta = conv.scaled_noise(NOISE)
    assert torch.allclose(eta, NOISE.view(5, 3, 3, 3) * conv.weight.std())
    wide = NoisyConv2d(64, 64)
    spread = wide.scaled_noise(draw(64 * 64 * 9)).std() / wide.weight.detach().std()
    assert abs(float(spread) - 1) < 0.02
    assert not eta.requires_grad


def test_the_effective_weight_by_hand() -> None:
    conv = layer()
    wanted = conv.weight + 0.3 * 0.25 * NOISE.view(5, 3, 3, 3) * conv.weight.std()
    cond = Condition(torch.tensor([0.3]), True, noise=NOISE)
    assert torch.allclose(conv.effective_weight(cond), wanted, atol=1e-7)
    assert torch.allclose(conv(X, cond), F.conv2d(X, wanted, padding=1), atol=1e-5)


def test_output_is_linear_in_lam_and_alpha() -> None:
    conv = layer()

    def change(lam: float) -> Tensor:
        return conv(X, Condition(torch.tensor([lam]), True, noise=NOISE)) - conv(X, Condition(torch.zeros(1), True))

    half, whole = change(0.5), change(1.0)
    assert torch.allclose(2 * half, whole, atol=1e-5)
    assert whole.abs().max() > 0.01
    with torch.no_grad():
        conv.alpha.mul_(0.5)
    assert torch.allclose(change(1.0), half, atol=1e-5)


def test_alpha_gets_gradients_only_where_noise_is() -> None:
    conv = layer()
    conv(X, Condition(torch.ones(1), True, noise=NOISE)).square().sum().backward()
    assert conv.alpha.grad is not None
    assert conv.alpha.grad.abs() > 0


class Three(nn.Module):
    def __init__(self, layers: LayerSet) -> None:
        super().__init__()
        self.first, self.second, self.third = layers.conv(3, 4), layers.conv(4, 4, 1), layers.conv(4, 2)


def test_each_layer_has_its_own_noise() -> None:
    net = Three(noisy_layers())
    size, units = assign_indices(net)
    assert (size, units) == (3 * 4 * 9 + 4 * 4 + 4 * 2 * 9, ())
    assert [conv.noise_start for conv in (net.first, net.second, net.third)] == [0, 108, 124]
    ramp = torch.arange(float(size))
    seen = [conv.scaled_noise(ramp) / conv.weight.std() for conv in (net.first, net.second, net.third)]
    assert torch.allclose(torch.cat([part.flatten() for part in seen]), ramp, rtol=1e-4)


def test_shared_amplitude_sums_the_gradients_of_its_layers() -> None:
    def three(alpha: Amplitude) -> Three:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = Three(noisy_layers(alpha))
        assign_indices(net)
        return net

    own, one = three(0.25), three(nn.Parameter(torch.tensor(0.25)))
    noise = draw(108 + 16 + 72, seed=3)
    for net in (own, one):
        out, cond = X, Condition(torch.tensor([0.7]), True, noise=noise)
        for conv in (net.first, net.second, net.third):
            out = conv(out, cond)
        out.square().sum().backward()
        net.out = out
    assert torch.equal(own.out, one.out)
    assert len(list(one.parameters())) == 4 and len(list(own.parameters())) == 6
    alphas = [conv.alpha.grad for conv in (own.first, own.second, own.third)]
    assert torch.allclose(one.third.alpha.grad, torch.stack(alphas).sum(), rtol=1e-4)
    assert torch.equal(own.second.weight.grad, one.second.weight.grad)


def test_the_starting_amplitude_is_the_methods() -> None:
    assert noisy_layers(0.5).conv(3, 4).alpha.item() == 0.5
