"""Networks with other code's names: initialised from their weights, ours compute the same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from distcond.init_from.initialise import copy_weights_into
from distcond.models.conditional import AtLambda
from distcond.runs.build import build_model
from support.installed import needs

needs("torchvision", "the networks of torchvision come with it")

RAW = {"mean": torch.zeros(3, 1, 1), "std": torch.ones(3, 1, 1)}  # no normalisation, as stored in the checkpoint
DEPTHS, WIDTHS = (2, 1), (4, 8)
SHAPE = {"model__depths": "2,1", "model__widths": "4,8"}


def conv(ins: int, outs: int, size: int = 3, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(ins, outs, size, stride, size // 2, bias=False)


class Block(nn.Module):
    """A basic block with a module named `shortcut`."""

    def __init__(self, ins: int, outs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(ins, outs, 3, stride), nn.BatchNorm2d(outs)
        self.conv2, self.bn2 = conv(outs, outs), nn.BatchNorm2d(outs)
        self.shortcut = nn.Sequential()
        if stride > 1 or ins != outs:
            self.shortcut = nn.Sequential(conv(ins, outs, 1, stride), nn.BatchNorm2d(outs))

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


class PreAct(nn.Module):
    """A pre-activation block; `wide` names the shortcut as wide ResNets do."""

    def __init__(self, ins: int, outs: int, stride: int, wide: bool = False) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(ins), conv(ins, outs, 3, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(outs), conv(outs, outs)
        self.skip = "convShortcut" if wide else "shortcut"
        if stride > 1 or ins != outs:
            skip = conv(ins, outs, 1, stride)
            setattr(self, self.skip, skip if wide else nn.Sequential(skip))

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        skip = getattr(self, self.skip)(active) if hasattr(self, self.skip) else x
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + skip


def groups(block: Any, ins: int, **options: Any) -> list[nn.Sequential]:
    found = []
    for stage, (depth, outs) in enumerate(zip(DEPTHS, WIDTHS, strict=True)):
        blocks = []
        for index in range(depth):
            blocks.append(block(ins, outs, 2 if stage and not index else 1, **options))
            ins = outs
        found.append(nn.Sequential(*blocks))
    return found


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(3, WIDTHS[0]), nn.BatchNorm2d(WIDTHS[0])
        self.layer1, self.layer2 = groups(Block, WIDTHS[0])
        self.linear = nn.Linear(WIDTHS[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))).mean((2, 3)))


class PreActResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, WIDTHS[0])
        self.layer1, self.layer2 = groups(PreAct, WIDTHS[0])
        self.bn, self.linear = nn.BatchNorm2d(WIDTHS[-1]), nn.Linear(WIDTHS[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(F.relu(self.bn(self.layer2(self.layer1(self.conv1(x))))).mean((2, 3)))


class Group(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer


class WideResNet(nn.Module):
    """With the sub-block that TRADES' code defines and never uses."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = conv(3, 16)
        self.block1, self.block2 = (Group(layer) for layer in groups(PreAct, 16, wide=True))
        self.sub_block1 = Group(groups(PreAct, 16, wide=True)[0])
        self.bn1, self.fc = nn.BatchNorm2d(WIDTHS[-1]), nn.Linear(WIDTHS[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        out = self.block2.layer(self.block1.layer(self.conv1(x)))
        return self.fc(F.relu(self.bn1(out)).mean((2, 3)))


class Vgg(nn.Module):
    """Convolutions with a bias, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        parts, ins = [], 3
        for depth, outs in zip(DEPTHS, WIDTHS, strict=True):
            for _ in range(depth):
                parts += [nn.Conv2d(ins, outs, 3, padding=1), nn.BatchNorm2d(outs), nn.ReLU()]
                ins = outs
            parts.append(nn.MaxPool2d(2))
        self.features, self.classifier = nn.Sequential(*parts), nn.Linear(WIDTHS[-1], 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


FOREIGN = {
    "kuangliu_resnet": (ResNet, {"model": "resnet18", **SHAPE}),
    "kuangliu_preact": (PreActResNet, {"model": "preact_resnet18", **SHAPE}),
    "wide_resnet": (WideResNet, {"model": "wrn16_8", "model__stem_width": 16, **SHAPE}),
    "vgg": (Vgg, {"model": "vgg16_bn", **SHAPE}),
}
#: Methods whose network at these lam is the plain one.
SAME = {
    "pgd_at": ({}, (1.0,)),
    "float": ({}, (0.0,)),
    "oat": ({"method__identity_start": True}, (0.0, 0.4, 1.0)),
    "smart": ({"method__density": 1}, (0.0, 1.0)),
}


def trained(net: nn.Module, pixels: int) -> nn.Module:
    """The network with changed running statistics, scales and shifts; in eval mode."""
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0, 0.2)
        for _ in range(2):
            net.train()(torch.rand(4, 3, pixels, pixels))
    return net.eval()


def initialise_from(tiny: Any, net: nn.Module, file: Path, method: str, **settings: Any) -> tuple[Any, Any]:
    """Our network in eval mode, initialised from a file with the weights of `net`, and the report."""
    if not file.exists():
        torch.save({"state_dict": {f"module.{name}": value for name, value in (net.state_dict() | RAW).items()}}, file)
    config = tiny(method, settings.pop("model"), init_from=str(file), **settings)
    model = build_model(config)
    return model.eval(), copy_weights_into(model, config)


@pytest.fixture(autouse=True)
def seed_torch() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("method", SAME)
@pytest.mark.parametrize("name", FOREIGN)
def test_logits_match_common_implementations(tiny: Any, tmp_path: Path, name: str, method: str) -> None:
    (kind, settings), (more, points) = FOREIGN[name], SAME[method]
    net, x = trained(kind(), 16), torch.rand(5, 3, 16, 16)
    model, report = initialise_from(tiny, net, tmp_path / "a.pth", method, **settings, **more)
    assert report.record["convention"] == name
    for lam in points:
        with torch.no_grad():
            assert torch.allclose(AtLambda(model, lam)(x), net(x), rtol=0, atol=1e-5), lam
    unused = set(report.record["unused"])
    assert unused == {n for n in net.state_dict() if n.startswith("sub_block1") and "num_batches" not in n}


@pytest.mark.parametrize("method", ["pgd_at", "float"])
def test_oat_authors_names_imply_raw_pixels(tiny: Any, tmp_path: Path, method: str) -> None:
    net, x, file = trained(ResNet(), 16), torch.rand(5, 3, 16, 16), tmp_path / "a.pth"
    theirs = {"layer": "bundle", "shortcut.0": "conv_sc", "shortcut.1": "bn_sc"}
    state = dict(net.state_dict())
    for old, new in theirs.items():
        state = {name.replace(old, new): value for name, value in state.items()}
    torch.save({"state_dict": state}, file)
    model, report = initialise_from(tiny, net, file, method, **FOREIGN["kuangliu_resnet"][1])
    assert report.record["convention"] == "oat_resnet"
    assert "normalisation adopted: mean 0,0,0 std 1,1,1" in report.summary
    with torch.no_grad():
        assert torch.allclose(AtLambda(model, 1.0 if method == "pgd_at" else 0.0)(x), net(x), rtol=0, atol=1e-5)


@pytest.mark.cluster
@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_logits_match_torchvision(tiny: Any, tmp_path: Path, name: str) -> None:
    from torchvision import models

    net, x = trained(getattr(models, name)(num_classes=10), 64), torch.rand(2, 3, 64, 64)
    depths = "2,2,2,2" if name == "resnet18" else "3,4,6,3"
    shape = {"model": name, "model__depths": depths, "model__widths": "64,128,256,512", "model__stem": "large"}
    model, report = initialise_from(tiny, net, tmp_path / "a.pth", "pgd_at", **shape)
    with torch.no_grad():
        wanted, found = net(x), model(x, model.condition(1.0))
    assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert report.record["convention"] == "torchvision_resnet"
    assert report.record["fresh"] == report.record["unused"] == []


def test_features_match_torchvisions_vgg(tiny: Any, tmp_path: Path) -> None:
    from torchvision.models import vgg

    layers = [4, 4, "M", 8, 8, "M", 8, 8, 8, "M", 8, 8, 8, "M", 8, 8, 8, "M"]  # configuration D, narrow
    net = Vgg()
    net.features = trained(vgg.make_layers(layers, batch_norm=True), 32)
    net.classifier = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 10))
    shape = {"model__depths": "2,2,3,3,3", "model__widths": "4,8,8,8,8"}
    model, report = initialise_from(tiny, net, tmp_path / "a.pth", "pgd_at", model="vgg16_bn", **shape)
    seen: list[Tensor] = []
    model.backbone.linear.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        model(x, model.condition(1.0))
        assert torch.allclose(seen[0], net.features(x).mean((2, 3)), rtol=0, atol=1e-5)
    assert report.record["fresh"] == ["linear.weight", "linear.bias"]
    assert "the classifier starts fresh: nothing there for linear" in report.summary
    assert {name.partition(".")[0] for name in report.record["unused"]} == {"classifier"}
    assert len(report.record["biases_in_running_means"]) == 13
