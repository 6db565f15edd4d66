"""An exported ResNet in torchvision's own class: the same logits, under its names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from distcond.config.overrides import resolve
from distcond.errors import ConfigError
from distcond.exporting.folder import ExportConfig
from distcond.exporting.target import OWN_FILES, write_files
from distcond.exporting.torchvision import check_torchvision, torchvision_state
from distcond.models.plain_network import fold
from distcond.operating_point import OperatingPoint
from distcond.runs.build import build_model


def theirs(name: str, stem: str) -> nn.Module:
    network = getattr(torchvision.models, name)(num_classes=10)
    if stem == "small":
        network.conv1, network.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    return network.eval()


def normalised(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return (x - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@pytest.mark.parametrize(("name", "stem"), [("resnet18", "small"), ("resnet50", "large")])
def test_torchvision_network_gives_the_same_logits(name: str, stem: str) -> None:
    config = resolve("float_cifar10_resnet18", {"model": name, "model.stem": stem, "data.mean": "", "data.std": ""})
    model, generator = build_model(config).eval(), torch.Generator().manual_seed(0)
    for key, value in model.state_dict().items():
        if key.endswith(("running_mean", "running_var")):
            value.add_(0.5 * torch.rand(value.shape, generator=generator))
    network = fold(model, OperatingPoint(1.0, "weights", 0.4), keep_norm=True, narrow=False)
    loaded = theirs(name, stem)
    loaded.load_state_dict(torchvision_state(network, list(config.model.depths)))  # type: ignore[attr-defined]
    x = torch.rand(2, 3, 32, 32, generator=generator)
    with torch.no_grad():
        mean, std = network.get_buffer("mean"), network.get_buffer("std")
        found, expected = loaded(normalised(x, mean, std)), network(x)
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_file_names_model_stem_and_pixels(tmp_path: Path) -> None:
    network = fold(build_model(resolve("float_cifar10_resnet18", {})).eval(), 1.0, keep_norm=True, narrow=False)
    write_files(network, EXPORT, tmp_path, ["torchvision"])
    assert {file.name for file in tmp_path.iterdir()} <= OWN_FILES, "a second export replaces the folder"
    file = tmp_path / "torchvision.safetensors"
    theirs("resnet18", "small").load_state_dict(safetensors.torch.load_file(file))
    with safetensors.safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    assert (metadata["model"], metadata["stem"]) == ("resnet18", "small") and {"mean", "std"} <= set(metadata)


EXPORT = ExportConfig(
    "resnet18", {"depths": [2, 2, 2, 2], "widths": [64, 128, 256, 512], "stem": "small"}, 10, 32, (),
    {"lam": 1.0, "blend": "", "t": 0.0, "width": 1.0, "noise_seed": 0}, True, None, {},
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "narrow", "message"),
    [
        ({"architecture": "small_cnn"}, False, "no small_cnn"),
        ({"options": {"depths": [2, 2, 2, 2], "widths": [32, 64, 128, 256]}}, False, "no resnet18 of this size"),
        ({"keep_norm": False}, False, "keep_norm=true"),
        ({}, True, "narrow=false"),
        ({"operating_point": {**EXPORT.operating_point, "width": 0.5}}, False, "width=1"),
        ({"operating_point": {**EXPORT.operating_point, "blend": "outputs", "t": 0.5}}, False, "two networks"),
    ],
)
def test_network_torchvision_lacks_is_refused(changes: dict[str, Any], narrow: bool, message: str) -> None:
    check_torchvision(EXPORT, narrow=False)
    with pytest.raises(ConfigError, match=rf"^formats=torchvision: .*{message}"):
        check_torchvision(replace(EXPORT, **changes), narrow)
