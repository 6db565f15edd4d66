"""Architectures that torchvision has too: the same weights give the same logits, in training and in eval mode."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distcond.layers.condition import Condition
from distcond.layers.layer_set import plain_layers
from distcond.models.resnet import BasicBlock, Bottleneck, ResNet
from distcond.models.vgg import Vgg

COND = Condition(torch.ones(1), True)
DEPTHS = (1, 2, 1, 1)


@pytest.fixture
def theirs() -> Any:
    return pytest.importorskip("torchvision", reason="torchvision is not installed").models


def images(size: int) -> Tensor:
    return torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))


def seeded(make: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made: nn.Module = make()
    return made


def same_logits(ours: nn.Module, other: nn.Module, x: Tensor) -> None:
    """Both name their parts differently but in the same order."""
    values = list(ours.state_dict().values())
    other.load_state_dict(dict(zip(other.state_dict(), values, strict=True)))
    for training in (True, False):
        with torch.no_grad():
            found, wanted = ours.train(training)(x, COND), other.train(training)(x)
        assert torch.allclose(found, wanted, atol=1e-4 * wanted.abs().max().item())
        assert wanted.std() > 1e-3


@pytest.mark.parametrize("block", ["BasicBlock", "Bottleneck"])
def test_a_resnet_for_large_images(theirs: Any, block: str) -> None:
    kind = {"BasicBlock": BasicBlock, "Bottleneck": Bottleneck}[block]
    ours = seeded(lambda: ResNet(plain_layers(), 10, DEPTHS, (64, 128, 256, 512), kind, large_stem=True))
    other = theirs.ResNet(getattr(theirs.resnet, block), list(DEPTHS), num_classes=10)
    same_logits(ours, other, images(64))


def test_vgg_up_to_its_classifier(theirs: Any) -> None:
    ours = seeded(lambda: Vgg(plain_layers(), 10, (2, 2, 3, 3, 3), (64, 128, 256, 512, 512)))
    features = theirs.vgg16_bn().features
    for module in features:
        if isinstance(module, nn.Conv2d):
            module.bias = None
    same_logits(ours, nn.Sequential(features, nn.Flatten(), nn.Linear(512, 10)), images(32))
