"""A network whose position is changed while it is used, beside blends made one at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from distcond.errors import ConfigError
from distcond.models.dial import network_at
from distcond.models.dial_network import DialNetwork
from distcond.operating_point import OperatingPoint
from distcond.registry import table
from distcond.runs.build import build_model

METHODS = ("oat", "oats", "float", "float_slim", "floats", "smart")
MODELS = sorted({value.build: name for name, value in table("model").items()}.values())
PAIRS = [*((method, "small_cnn") for method in METHODS), *(("float", model) for model in MODELS)]


def shaken(tiny: Any, method: str, model: str = "small_cnn") -> Any:
    """A tiny network whose statistics and affines are no longer those of the start."""
    net = build_model(tiny(method, model))
    source = torch.Generator().manual_seed(1)
    for name, tensor in net.backbone.state_dict().items():
        if ".norm" in name and tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=source))
    return net.eval()


def images(model: str, count: int = 4) -> Tensor:
    size = 32 if model == "resnet50" else 8
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(2))


def close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1))


@pytest.mark.parametrize(("method", "model"), PAIRS)
def test_every_position_is_the_blend(tiny: Any, method: str, model: str) -> None:
    net, x = shaken(tiny, method, model), images(model)
    dial = DialNetwork(net)
    for t in (0.3, 1.0, 0.0, 0.3, 0.8):
        assert close(dial.at(t)(x), network_at(net, OperatingPoint(1.0, "weights", t))(x)), t


@pytest.mark.parametrize(("method", "model"), PAIRS)
def test_rows_may_be_at_different_positions(tiny: Any, method: str, model: str) -> None:
    net, x, t = shaken(tiny, method, model), images(model), torch.tensor([0.0, 0.25, 0.7, 1.0])
    dial = DialNetwork(net).at(0.4)
    found = dial(x, t)
    for row, at in enumerate(t.tolist()):
        assert close(found[row : row + 1], dial.at(at)(x[row : row + 1])), at
    assert dial.position == 1.0


def test_kept_positions_are_not_computed_again(tiny: Any) -> None:
    dial = DialNetwork(shaken(tiny, "float"), keep=2)
    places = []
    for t in (0.2, 0.4, 0.2, 0.6, 0.2):
        dial.at(t)
        places.append(next(dial.network.parameters()).data_ptr())
    assert places[0] == places[2] == places[4], "kept, since it was used last"
    assert places[3] == places[1], "written over what was used longest ago"


def test_ends_stay_what_they_are(tiny: Any) -> None:
    net, x = shaken(tiny, "oat"), images("small_cnn")
    dial = DialNetwork(net)
    before = dial.at(1.0)(x)
    dial.at(0.5), dial.at(0.0)
    assert torch.equal(dial.at(1.0)(x), before)


def test_moved_network_stays_at_its_position(tiny: Any) -> None:
    net, x = shaken(tiny, "float"), images("small_cnn")
    dial = DialNetwork(net).at(0.3)
    before = dial(x)
    assert close(dial.double()(x.double()).float(), before)
    assert close(dial(x.double(), torch.full((4,), 0.3)).float(), before)


@pytest.mark.parametrize("t", [-0.1, 1.1, float("nan")])
def test_positions_outside_are_refused(tiny: Any, t: float) -> None:
    with pytest.raises(ConfigError, match="t="):
        DialNetwork(shaken(tiny, "float")).at(t)


def test_one_path_has_no_dial(tiny: Any) -> None:
    with pytest.raises(ConfigError, match="one path"):
        DialNetwork(shaken(tiny, "pgd_at"))
