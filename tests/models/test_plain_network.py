"""Operating points folded into plain networks, beside the conditional networks they are folded from."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.errors import ConfigError
from distcond.layers.folding import ConvNorm, NormUnit
from distcond.layers.layer_set import plain_layers
from distcond.methods.floats import METHOD
from distcond.mixednuts import Mix
from distcond.models.conditional import ConditionalModel, condition_at_lam
from distcond.models.dial import network_at
from distcond.models.narrowing import remove_dead_channels
from distcond.models.plain_network import fold
from distcond.operating_point import OperatingPoint, PointLike
from distcond.registry import table
from distcond.runs.build import build_model
from support.groups import quick
from support.networks import close, images, shaken

METHODS = sorted(table("method"))
#: One network per way of building one.
MODELS = sorted({value.build: name for name, value in table("model").items()}.values())
#: Each method on one network, and each network with the layers that differ most.
FEW = {
    *((method, "small_cnn") for method in METHODS),
    *((method, model) for method in ("oats", "float") for model in MODELS),
}
PLAIN = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)


def points_of(net: ConditionalModel) -> list[PointLike]:
    blends = [OperatingPoint(1.0, "weights", 0.3), OperatingPoint(1.0, "outputs", 0.3)]
    return [0.0, 0.4, 1.0, *(blends if net.two_paths and not net.two_networks else [])]


@pytest.mark.parametrize("keep_norm", [False, True])
@pytest.mark.parametrize(("method", "model"), quick(*FEW, of=product(METHODS, MODELS)))
def test_plain_network_equals_the_conditional_one(tiny: Any, method: str, model: str, keep_norm: bool) -> None:
    net, x = shaken(tiny, method, model), images(model)
    for point in points_of(net):
        for width in net.width_mults:
            found = fold(net, point, width, noise_seed=3, keep_norm=keep_norm)
            assert close(found(x), network_at(net, point, width, noise_seed=3)(x)), (point, width)
            if isinstance(point, float):  # and nothing folded at all
                assert close(found(x), net(x, condition_at_lam(net, point, width, noise_seed=3))), (point, width)


@pytest.mark.parametrize("model", MODELS)
def test_every_layer_is_one_of_torch(tiny: Any, model: str) -> None:
    for method in ("oats", "smart", "floats"):
        plain = fold(shaken(tiny, method, model), 1.0, keep_norm=True)
        leaves = [module for module in plain.modules() if not list(module.children()) and list(module.parameters())]
        assert leaves and all(type(leaf) in PLAIN for leaf in leaves)
        assert not any(module.training for module in plain.modules())


def test_norm_keeps_the_statistics_of_its_path(tiny: Any) -> None:
    net = shaken(tiny, "float")
    adv, clean = fold(net, 1.0, keep_norm=True), fold(net, 0.0, keep_norm=True)
    norm = net.backbone.units[0].norm
    assert torch.equal(adv.get_submodule("units.0.norm").running_var, norm.adv.running_var)
    assert torch.equal(clean.get_submodule("units.0.norm").running_mean, norm.clean.running_mean)


def test_later_training_changes_nothing(tiny: Any) -> None:
    net, x = shaken(tiny, "oat"), images()
    plain = fold(net, 0.4)
    before = plain(x)
    for value in net.parameters():
        value.data.mul_(2)
    assert torch.equal(plain(x), before)


@pytest.mark.parametrize("method", ["oats", "float_slim"])
def test_narrower_width_has_smaller_layers(tiny: Any, method: str) -> None:
    net = shaken(tiny, method)
    wide, narrow = (fold(net, 1.0, width) for width in (net.width_mults[0], net.width_mults[-1]))
    assert count(narrow) < 0.5 * count(wide)


def count(net: nn.Module) -> int:
    return sum(value.numel() for value in net.parameters())


@pytest.mark.parametrize("model", MODELS)
def test_pruned_channels_leave_smaller_layers(tiny: Any, model: str) -> None:
    """Half of the channels of every convolution are empty, and normalisation does not fill them."""
    net, x = build_model(tiny("floats", model)).eval(), images(model)
    for name, value in net.backbone.named_parameters():
        if value.dim() == 4:
            value.data[1::2] = 0
        if value.dim() == 1 and name.endswith("bias") and "linear" not in name:
            value.data.fill_(-0.01)  # relu(shift) is 0
    whole, smaller = fold(net, 0.0, narrow=False), fold(net, 0.0)
    assert close(smaller(x), whole(x)) and close(smaller(x), network_at(net, 0.0)(x))
    assert count(smaller) < 0.6 * count(whole)


def test_residual_streams_lose_channels_together(tiny: Any) -> None:
    net, x = build_model(tiny("pgd_at", "resnet20")).eval(), images()
    stream = [net.backbone.stem, net.backbone.blocks[0].unit2]
    for unit in stream[:1]:
        unit.conv.weight.data[0] = 0
    one_only = fold(net, 0.0)
    assert one_only.get_submodule("stem").out_channels == 4, "the block's own convolution fills it"
    for unit in stream:
        unit.conv.weight.data[0] = 0
    both = fold(net, 0.0)
    assert both.get_submodule("stem").out_channels == 3
    assert both.get_submodule("blocks.1.shortcut").in_channels == 3
    assert close(both(x), network_at(net, 0.0)(x))


class Chain(nn.Module):
    """Two convolutions, the second with or without padding, and a classifier."""

    def __init__(self, padding: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3, padding=padding)
        self.linear = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(x))))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


@pytest.mark.parametrize(("padding", "kept"), [(0, 3), (1, 4)])
def test_constants_move_into_biases_where_exact(padding: int, kept: int) -> None:
    torch.manual_seed(0)
    chain, x = Chain(padding).eval(), images()
    with torch.no_grad():
        chain.first.weight[1], chain.first.bias[1] = 0, 0.7
        expected = chain(x)
        found = remove_dead_channels(torch.fx.symbolic_trace(chain))
        assert found.get_submodule("first").out_channels == kept
        assert close(found(x), expected)


def test_unread_channels_are_removed() -> None:
    chain, x = Chain(1).eval(), images()
    with torch.no_grad():
        chain.second.weight[:, 2] = 0
        chain.linear.weight[:, 4] = 0
        expected = chain(x)
        found = remove_dead_channels(torch.fx.symbolic_trace(chain))
        assert found.get_submodule("first").out_channels == 3
        assert found.get_submodule("second").out_channels == 4
        assert close(found(x), expected)


def test_attacks_see_the_same_gradient(tiny: Any) -> None:
    net, x, y = shaken(tiny, "float"), images(count=16), torch.arange(16) % 10
    for point in points_of(net):
        gradients = []
        for target in (network_at(net, point), fold(net, point)):
            leaf = x.clone().requires_grad_()
            gradients += torch.autograd.grad(F.cross_entropy(target(leaf), y, reduction="sum"), leaf)
        assert close(*gradients)


def test_channels_that_floats_pruned_are_removed(tiny: Any) -> None:
    """FLOATS prunes input channels: what no layer reads any more goes."""
    config = tiny("floats", "small_cnn", method__by="channel", method__density="0.5")
    net, x = build_model(config), images()
    sparsity = METHOD.sparsity(config, net)
    assert sparsity is not None
    sparsity.start("train")
    net.eval()
    whole, smaller = fold(net, 1.0, narrow=False), fold(net, 1.0)
    assert close(smaller(x), whole(x))
    assert count(smaller) < 0.8 * count(whole)


def test_one_path_has_no_blend(tiny: Any) -> None:
    with pytest.raises(ConfigError, match="dial=weights"):
        fold(shaken(tiny, "pgd_at"), OperatingPoint(1.0, "weights", 0.5))


def test_training_mode_is_refused(tiny: Any) -> None:
    with pytest.raises(ValueError, match="eval"):
        fold(shaken(tiny, "float").train(), 0.5)


class Own(nn.Module):
    """A user's model: torch's modules between the layers of a method, a normalised image, no global pooling."""

    def __init__(self) -> None:
        super().__init__()
        layers = plain_layers()
        self.norm, self.unit = NormUnit(layers, 3), ConvNorm(layers, 3, 4)
        self.between = nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(0.5))
        self.linear = nn.Linear(4 * 4 * 4, 10, bias=False)

    def forward(self, x: Tensor, cond: Any) -> Tensor:
        x = self.between(self.unit(self.norm(x, cond), cond))
        logits: Tensor = self.linear(x.flatten(1))
        return logits


@pytest.mark.parametrize("keep_norm", [False, True])
def test_models_of_users_fold(keep_norm: bool) -> None:
    net, x = ConditionalModel(Own()).eval(), images()
    net.backbone.unit.conv.weight.data[1] = 0
    net.backbone.linear.weight.data[:, ::3] = 0
    assert close(fold(net, 0.0, keep_norm=keep_norm)(x), network_at(net, 0.0)(x))


class Branching(Own):
    def forward(self, x: Tensor, cond: Any) -> Tensor:
        return super().forward(x if x.mean() > 0 else -x, cond)


def test_untraceable_model_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="Branching"):
        fold(ConditionalModel(Branching()).eval(), 0.0)


@pytest.mark.parametrize("keep_norm", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_every_precision_folds_to_float32(tiny: Any, dtype: torch.dtype, keep_norm: bool) -> None:
    net, x = shaken(tiny, "float").to(dtype), images()
    found = fold(net, 1.0, keep_norm=keep_norm)
    floats = [value for value in found.state_dict().values() if value.is_floating_point()]
    assert all(value.dtype == torch.float32 for value in floats)
    assert found(x).isfinite().all()


@pytest.mark.parametrize("model", ["small_cnn", "preact_resnet18"])
def test_every_tensor_is_on_the_models_device(tiny: Any, model: str) -> None:
    net = shaken(tiny, "float", model).to("meta")
    found = fold(net, 0.0, keep_norm=True, narrow=False)
    assert {value.device.type for value in found.state_dict().values()} == {"meta"}


class Twice(nn.Module):
    """One convolution called twice, and what narrowing must not take for operations on channels."""

    def __init__(self, odd: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.same = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.last, self.linear, self.odd = nn.Conv2d(4, 5, 3), nn.Linear(5, 2), odd

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.odd(self.same(self.same(x)), x)
        logits: Tensor = self.linear(F.relu(self.last(x)).mean((2, 3)))
        return logits


@pytest.mark.parametrize(
    "odd",
    [
        lambda x, y: x + y,
        lambda x, y: torch.add(x, y, alpha=2),
        lambda x, y: F.relu(y, inplace=True) + x + y,
        lambda x, y: x + y.mean(1, keepdim=True),
        lambda x, y: torch.cat([x[:, 2:], y[:, :2]], 1),
        lambda x, y: x * y,
    ],
)
def test_odd_graphs_keep_their_function(odd: Callable[[Tensor, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    chain, x = Twice(odd).eval(), images()
    with torch.no_grad():
        for dead in (0, 2):
            chain.first.weight[dead], chain.first.bias[dead] = 0, -0.7
            chain.same.weight[dead], chain.same.bias[dead] = 0, 0.3
        expected = chain(x)
        assert close(remove_dead_channels(torch.fx.symbolic_trace(chain))(x), expected)


def test_channel_of_scale_zero_is_constant(tiny: Any) -> None:
    net, x = shaken(tiny, "pgd_at"), images()
    norm = net.backbone.units[0].norm
    norm.weight.data[1], norm.bias.data[1] = 0, -0.5
    smaller = fold(net, 0.0, keep_norm=True)
    assert smaller.get_submodule("units.0.conv").out_channels == norm.num_features - 1
    assert close(smaller(x), network_at(net, 0.0)(x))


def test_network_without_any_channel_alive_folds(tiny: Any) -> None:
    for model in MODELS:
        net, x = build_model(tiny("pgd_at", model)).eval(), images(model)
        for name, value in net.backbone.named_parameters():
            if "linear" not in name:
                value.data.zero_()
        assert close(fold(net, 0.0)(x), network_at(net, 0.0)(x)), model


@pytest.mark.parametrize("blend", ["outputs", "folded", "mixednuts"])
def test_every_blend_of_a_pair_folds(tiny: Any, blend: Any) -> None:
    net, x, point = shaken(tiny, "pair"), images(), OperatingPoint(1.0, blend, 0.3)
    net.mix = Mix(0.8, 2.0, -0.7)
    assert close(fold(net, point)(x), network_at(net, point)(x))
