"""Sizes of the networks against the papers', and what the model around a network does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.config.overrides import resolve
from distcond.errors import ConfigError
from distcond.layers.condition import Condition
from distcond.layers.layer_set import LayerSet, dual_bn_layers, film_layers, plain_layers
from distcond.models.conditional import ConditionalModel
from distcond.models.model import Model
from distcond.models.preact_resnet import PreActBlock
from distcond.models.wide_resnet import WideResNetOptions
from distcond.registry import table
from distcond.runs.build import build_model


def images(n: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def count(model: str, method: str) -> int:
    config = resolve("float_digits", {"method": method, "model": model})
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(config).parameters())


def size(model: str, layers: LayerSet, num_classes: int = 10, options: Any = None) -> int:
    """Parameters of a network of its full size, which is never drawn."""
    found: Model = table("model")[model]
    with torch.device("meta"):
        return sum(part.numel() for part in found.build(layers, num_classes, options or found.options).parameters())


@pytest.mark.parametrize(
    ("model", "layers", "wanted"),
    [
        ("resnet18", plain_layers(), 11_173_962),
        ("resnet34", plain_layers(), 21_282_122),
        ("resnet34", dual_bn_layers(), 21_299_146),
        ("resnet34", film_layers(128), 33_355_466),  # OAT with codes of 128: 33.355 M
        (
            "preact_resnet18",
            plain_layers(),
            11_172_170,
        ),  # 11,171,146, and the 1,024 of the normalisation before pooling
        ("wrn16_8", plain_layers(), 10_961_370),
        ("wrn16_8", film_layers(128), 16_228_922),  # OAT on SVHN: 16.229 M
        ("wrn40_2", plain_layers(), 2_243_546),
        ("wrn40_2", film_layers(128), 3_886_394),  # OAT on STL-10: 3.886 M
        ("wrn34_10", plain_layers(), 46_160_474),
        ("vgg16_bn", plain_layers(), 14_724_042),  # 14,728,266 with the 4,224 biases that normalisation undoes
    ],
)
def test_parameters_are_counted_as_in_the_papers(model: str, layers: LayerSet, wanted: int) -> None:
    assert size(model, layers) == wanted


def test_resnet50_has_the_parameters_of_the_published_weights() -> None:
    assert size("resnet50", plain_layers(), 1000) == 25_557_032


def test_large_stem_gives_the_published_resnet18() -> None:
    options = resolve("float_digits", {"model": "resnet18", "model.stem": "large"}).model
    assert size("resnet18", plain_layers(), 1000, options) == 11_689_512


def test_wrn_28_10_is_a_matter_of_depth() -> None:
    # Zagoruyko & Komodakis 2016, table 4: 36.5 million.
    assert (
        size("wrn34_10", plain_layers(), 10, WideResNetOptions(depths=(4, 4, 4), widths=(160, 320, 640))) == 36_479_194
    )


def test_float_adds_amplitudes_and_a_second_normalisation() -> None:
    with torch.device("meta"):
        net = build_model(resolve("float_digits", {"model": "resnet34", "method": "float"}))
    names = dict(net.named_parameters())
    alphas = [name for name in names if name.endswith("alpha")]
    second = sum(tensor.numel() for name, tensor in names.items() if ".norm.adv." in name)
    assert len(alphas) == 36
    assert count("resnet34", "float") - count("resnet34", "pgd_at") == 36 + second
    assert count("resnet34", "float") == 21_299_182


def test_pixels_are_normalised_inside(tiny: Any) -> None:
    seen: list[Tensor] = []

    class Look(nn.Module):
        def forward(self, x: Tensor, cond: Condition) -> Tensor:
            seen.append(x)
            return x.mean((2, 3))

    net = ConditionalModel(Look(), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    net(images(), net.condition(0.0))
    assert torch.allclose(seen[0][:, 1], (images()[:, 1] - 0.2) / 0.25)


def test_initial_weights_follow_the_seed_alone(tiny: Any) -> None:
    before = torch.get_rng_state()
    one, again, other = (build_model(tiny(seed=seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["backbone.units.0.conv.weight"], other["backbone.units.0.conv.weight"])


def test_noise_is_a_function_of_its_name(tiny: Any) -> None:
    net = build_model(tiny("float"))
    noise = net.draw_noise(0, "clean", 3)
    assert noise is not None
    assert noise.shape == (net.noise_size,)
    assert torch.equal(noise, net.draw_noise(0, "clean", 3))
    assert not torch.equal(noise, net.draw_noise(0, "clean", 4))
    assert build_model(tiny("pgd_at")).draw_noise(0) is None


@pytest.mark.parametrize("model", [name for name in table("model") if name != "small_cnn"])
def test_stages_need_a_depth_and_a_width_each(model: str) -> None:
    with pytest.raises(ConfigError, match=r"model.depths=.*model.widths=\(4, 8\)"):
        build_model(resolve("float_digits", {"model": model, "model.widths": "4,8"}))


def test_wide_networks_start_with_he_s_weights() -> None:
    net = build_model(resolve("pgd_at_digits", {"model": "wrn40_2", "model.depths": "1,1,1"}))
    weight = net.backbone.blocks[2].conv2.conv.weight
    assert weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert weight.abs().max() > 3.5 * weight.std(), "normal, not uniform"


def test_dropout_acts_in_training_if_asked_for(tiny: Any) -> None:
    outputs = {}
    for share in ("0", "0.3"):
        net = build_model(tiny("pgd_at", "wrn40_2", model__dropout=share))
        cond = net.condition(1.0)
        for training in (True, False):
            net.train(training)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                outputs[share, training] = [net(images(), cond).detach() for _ in range(2)]
        net.eval()
        assert torch.allclose(net(images(), net.fold(cond)), net(images(), cond), atol=1e-5)
    alike = {case: torch.equal(*pair) for case, pair in outputs.items()}
    assert alike == {("0", True): True, ("0", False): True, ("0.3", True): False, ("0.3", False): True}


@pytest.mark.parametrize(("planes", "stride"), [(4, 1), (6, 2)])
def test_a_pre_activation_block_by_hand(planes: int, stride: int) -> None:
    block = PreActBlock(plain_layers(), 4, planes, stride)
    x = torch.randn(5, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    active = F.relu(F.batch_norm(x, None, None, training=True))
    middle = F.conv2d(active, block.unit1.conv.weight, stride=stride, padding=1)
    out = F.conv2d(F.relu(F.batch_norm(middle, None, None, training=True)), block.conv2.conv.weight, padding=1)
    skip = x if block.shortcut is None else F.conv2d(active, block.shortcut.conv.weight, stride=stride)
    assert torch.allclose(block(x, Condition(torch.ones(1), True)), out + skip, atol=1e-5)


def test_pooling_keeps_a_map_of_one_pixel(tiny: Any) -> None:
    net = build_model(tiny("pgd_at", "vgg16_bn", model__depths="1,1,1,1,1", model__widths="4,4,4,4,4")).eval()
    assert net(torch.rand(2, 3, 8, 8), net.condition(1.0)).isfinite().all()
