"""Folding new noise into all layers at once equals folding unit by unit, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from distcond.layers.condition import Condition
from distcond.models.conditional import ConditionalModel
from distcond.runs.build import build_model


def network(tiny: Any, method: str, model: str, layout: torch.memory_format, **settings: Any) -> ConditionalModel:
    """A network in eval mode with statistics, amplitudes and masks that are not the initial ones."""
    net = build_model(tiny(method, model, **settings))
    source = torch.Generator().manual_seed(1)
    for name, tensor in net.backbone.state_dict().items():
        if ".norm" in name and tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=source))
        if name.endswith("alpha"):
            tensor.copy_(torch.rand((), generator=source))
        if name.endswith("mask"):
            tensor.copy_(torch.rand(tensor.shape, generator=source) > 0.5)
    net.to(memory_format=layout)  # type: ignore[call-overload]
    return net.eval()


def assert_equal(found: Condition, wanted: Condition) -> None:
    assert found.folded is not None and wanted.folded is not None
    assert len(found.folded) == len(wanted.folded)
    for one, other in zip(found.folded, wanted.folded, strict=True):
        assert one.weight.dtype == other.weight.dtype
        assert torch.equal(one.weight, other.weight)
        assert one.bias is other.bias is None or torch.equal(one.bias, other.bias)  # type: ignore[arg-type]
        assert one.modulation == other.modulation


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("method", "model"),
    [("float", "small_cnn"), ("float", "preact_resnet18"), ("float", "resnet50"), ("floats", "small_cnn"),
     ("float_slim", "small_cnn")],
)  # fmt: skip
def test_noise_folds_as_unit_by_unit(
    tiny: Any, method: str, model: str, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    net = network(tiny, method, model, layout)
    for width in range(len(net.width_mults)):
        cond = net.condition(0.7, width=width)
        refold = net.prepare_fold(cond, dtype)
        for seed in (1, 2):
            noise = net.draw_noise(seed)
            assert noise is not None
            with torch.no_grad():
                assert_equal(refold(noise), net.fold(cond._replace(noise=noise), dtype))


def test_folded_noise_of_one_amplitude_for_all_layers(tiny: Any) -> None:
    net = network(tiny, "float", "small_cnn", torch.channels_last, method__shared_alpha=True)
    noise, cond = net.draw_noise(1), net.condition(1.0)
    assert noise is not None
    with torch.no_grad():
        assert_equal(net.prepare_fold(cond)(noise), net.fold(cond._replace(noise=noise)))


def test_a_later_draw_leaves_an_earlier_fold_alone(tiny: Any) -> None:
    net = network(tiny, "float", "small_cnn", torch.channels_last)
    refold, noise = net.prepare_fold(net.condition(1.0)), net.draw_noise(1)
    assert noise is not None
    first = refold(noise)
    assert first.folded is not None
    before = [unit.weight.clone() for unit in first.folded]
    refold(noise * 2)
    assert all(torch.equal(unit.weight, kept) for unit, kept in zip(first.folded, before, strict=True))


def test_folded_weights_keep_the_memory_layout(tiny: Any) -> None:
    net = network(tiny, "float", "resnet18", torch.channels_last)
    noise = net.draw_noise(1)
    assert noise is not None
    folded = net.prepare_fold(net.condition(1.0))(noise).folded
    assert folded is not None
    assert all(unit.weight.is_contiguous(memory_format=torch.channels_last) for unit in folded)
