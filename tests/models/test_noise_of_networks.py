"""Noise of evaluated networks: a seed's is drawn once and the same on every device, fresh noise on the device."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from distcond.evaluation.networks import attacked_model
from distcond.models.conditional import AtLambda, ConditionalModel
from distcond.models.dial import network_at, noise_to_network
from distcond.operating_point import OperatingPoint
from distcond.runs.build import build_model
from support.networks import images, shaken
from support.pretended_device import PRETENDED, pretended_device, to_device

POINTS = [
    OperatingPoint(0.7),
    OperatingPoint(1.0, "weights", 0.3),
    OperatingPoint(0.5, "weights", 1.0),
    OperatingPoint(1.0, "outputs", 0.3),
    OperatingPoint(1.0, "outputs", 1.0),
]


@pytest.mark.parametrize("point", POINTS, ids=str)
@pytest.mark.parametrize("method", ["float", "floats", "float_slim"])
def test_given_draw_makes_network_of_its_seed(tiny: Any, method: str, point: OperatingPoint) -> None:
    model = shaken(tiny, method)
    x = images()
    for width in model.width_mults:
        network_with = noise_to_network(model, point._replace(width=width))
        for seed in (3, 4):
            noise = model.draw_noise(seed)
            assert noise is not None
            assert torch.equal(network_with(noise)(x), network_at(model, point, width, seed)(x))


def test_the_noise_of_a_seed_is_drawn_once(tiny: Any) -> None:
    model = build_model(tiny("float")).eval()
    first = model.noise_of_seed(3)
    assert first is not None
    assert model.noise_of_seed(3) is first
    wanted = model.draw_noise(4, on="cpu")
    assert wanted is not None and not torch.equal(first, wanted)
    assert torch.equal(model.noise_of_seed(4), wanted)  # type: ignore[arg-type]
    assert model.noise_of_seed(3) is first
    for seed in range(5, 9):
        model.noise_of_seed(seed)
    again = model.noise_of_seed(3)
    assert again is not None and again is not first and torch.equal(again, first)
    assert build_model(tiny("pgd_at")).noise_of_seed(3) is None


def moved(model: ConditionalModel) -> ConditionalModel:
    return copy.deepcopy(model).to(PRETENDED)


def test_noise_seed_is_one_network_everywhere(tiny: Any) -> None:
    model = build_model(tiny("float")).eval()
    wanted = AtLambda(model, 1.0, noise_seed=3)(images())
    with pretended_device(), torch.no_grad():
        found = AtLambda(moved(model), 1.0, noise_seed=3)(to_device(images()))
        assert torch.equal(found.cpu(), wanted)


@pytest.mark.parametrize("noise", ["fresh", "eot"])
def test_fresh_noise_is_drawn_on_the_device(tiny: Any, noise: str) -> None:
    model = build_model(tiny("float")).eval()
    with pretended_device() as device:
        attacked = attacked_model(moved(model), OperatingPoint(1.0, "weights", 0.5), noise, 3, ("a", 0))
        attacked(to_device(images()))
        device.waits.clear()
        before = device.kernels["randn"]
        attacked(to_device(images()))
        assert device.waits == {}
        assert device.kernels["randn"] - before == (3 if noise == "eot" else 1)
