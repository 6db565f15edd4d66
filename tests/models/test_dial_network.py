"""A network whose position is changed while it is used, beside blends made one at a time."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch

from distcond.errors import ConfigError
from distcond.models.dial import network_at
from distcond.models.dial_network import DialNetwork
from distcond.operating_point import OperatingPoint
from distcond.registry import table
from distcond.runs.build import build_model
from support.networks import close, images, shaken

METHODS = ("oat", "oats", "float", "float_slim", "floats", "smart")
MODELS = sorted({value.build: name for name, value in table("model").items()}.values())
PAIRS = [*((method, "small_cnn") for method in METHODS), *(("float", model) for model in MODELS)]


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


def test_moving_devices_keeps_the_position(tiny: Any) -> None:
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


def test_gradients_are_those_of_the_forward_position(tiny: Any) -> None:
    dial, x = DialNetwork(shaken(tiny, "float")), images("small_cnn").requires_grad_()
    (expected,) = torch.autograd.grad(dial.at(0.2)(x)[:, 0].sum(), x)
    early = dial.at(0.2)(x)[:, 0].sum()
    for t in (0.9, 0.0, 1.0):
        dial.at(t)
    (found,) = torch.autograd.grad(early, x)
    assert torch.equal(found, expected)


def test_gradient_of_overwritten_memory_raises(tiny: Any) -> None:
    dial, x = DialNetwork(shaken(tiny, "float"), keep=1), images("small_cnn").requires_grad_()
    early = dial.at(0.2)(x)[:, 0].sum()
    dial.at(0.9)
    with pytest.raises(RuntimeError, match="inplace"):
        torch.autograd.grad(early, x)


def test_position_of_inference_mode_serves_attacks(tiny: Any) -> None:
    dial, x = DialNetwork(shaken(tiny, "float"), keep=1), images("small_cnn")
    with torch.inference_mode():
        expected = dial.at(0.3)(x).clone()
    leaf = x.clone().requires_grad_()
    torch.autograd.grad(dial(leaf)[:, 0].sum(), leaf)
    assert close(dial.at(0.3)(x), expected)
    dial.at(0.6)(x)


@pytest.mark.parametrize("place", [0.0, 0.4, 1.0])
def test_state_of_another_network_is_taken_over(tiny: Any, place: float) -> None:
    net, x, t = shaken(tiny, "float"), images("small_cnn"), torch.tensor([0.0, 0.25, 0.7, 1.0])
    source, target = DialNetwork(net).at(0.5), DialNetwork(build_model(tiny("float")).eval())
    target.at(0.3), target.at(place)
    target(x, t)
    target.load_state_dict(source.state_dict())
    assert target.position == place
    assert close(target(x), source.at(place)(x)) and close(target(x, t), source(x, t))
    for at in (0.0, 0.3, 1.0):
        assert close(target.at(at)(x), source.at(at)(x)), at


def test_state_does_not_depend_on_earlier_passes(tiny: Any) -> None:
    dial, x = DialNetwork(shaken(tiny, "float")), images("small_cnn")
    before = set(dial.state_dict())
    dial(x, torch.full((4,), 0.3))
    assert set(dial.state_dict()) == before


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies_are_independent(tiny: Any, how: str) -> None:
    x, t = images("small_cnn"), torch.tensor([0.0, 0.25, 0.7, 1.0])
    dial = DialNetwork(shaken(tiny, "float"), keep=1).at(0.4)
    dial(x, t)
    before = dial(x)
    twin = copy.deepcopy(dial) if how == "deepcopy" else pickle.loads(pickle.dumps(dial))
    assert close(twin(x), before) and close(twin(x, t), dial(x, t))
    assert close(twin.at(0.8)(x), dial.at(0.8)(x))
    twin.clean.zero_(), twin.robust.zero_()
    assert float(twin.at(0.1)(x).abs().max()) == 0
    assert close(dial.at(0.4)(x), before)


@pytest.mark.parametrize("keep", [0, -1])
def test_keeping_no_position_is_refused(tiny: Any, keep: int) -> None:
    with pytest.raises(ConfigError, match="keep="):
        DialNetwork(shaken(tiny, "float"), keep=keep)


@pytest.mark.parametrize("t", [[0.5], [0.5] * 5, [[0.5]] * 4, [0.5, 0.5, 0.5, 1.5], [0.5, 0.5, 0.5, float("nan")]])
def test_positions_of_rows_are_checked(tiny: Any, t: Any) -> None:
    with pytest.raises(ValueError, match="t:"):
        DialNetwork(shaken(tiny, "float"))(images("small_cnn"), torch.tensor(t))
