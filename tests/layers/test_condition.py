"""`AtLambda` equals its network, draws no random numbers, moves between devices and does not change the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from distcond.attacks.pgd import pgd
from distcond.config.overrides import resolve
from distcond.config.schema import AttackConfig
from distcond.errors import ConfigError
from distcond.layers.condition import Condition, Routing
from distcond.models.conditional import AtLambda, ConditionalModel
from distcond.runs.build import build_model


def trained(method: str = "float", **overrides: str) -> ConditionalModel:
    """A tiny network whose statistics and affine parameters are no longer those of the start, in eval mode."""
    model = build_model(resolve("float_digits", {"model.widths": "4,8", "method": method, **overrides}))
    source = torch.Generator().manual_seed(1)
    for name, tensor in model.backbone.state_dict().items():
        if ".norm" in name and tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=source))
    return model.eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("method", ["float", "pgd_at"])
@pytest.mark.parametrize("lam", [0, 0.0, 0.3, 1.0, 1, np.float64(0.3), np.float32(1.0)])
def test_at_lambda_equals_the_network(method: str, lam: float, x: Tensor) -> None:
    model = trained(method)
    noise = model.draw_noise(7) if lam > 0 else None
    wanted = model(x, model.condition(lam, noise=noise))
    assert torch.allclose(AtLambda(model, lam, noise_seed=7)(x), wanted, atol=1e-5)


@pytest.mark.parametrize("method", ["float", "floats", "float_slim"])
@pytest.mark.parametrize("lam", [0.3, 0.7])
def test_every_routing_folds(method: str, lam: float, x: Tensor) -> None:
    settings = {"model.widths": "8,16", "method.threshold": "0.5", "method.shared_alpha": "true"}
    outputs = []
    wanted = {"ranges": 2 * lam if lam < 0.5 else 2 * lam - 1, "linear": lam, "constant": lam > 0.5}
    for scale, amplitude in wanted.items():
        model = trained(method, **settings, **{"method.scale": scale})
        cond = Condition(torch.tensor([float(amplitude)]), lam > 0.5, noise=model.draw_noise(7))
        outputs.append(model(x, cond))
        assert torch.allclose(AtLambda(model, lam, noise_seed=7)(x), outputs[-1], atol=1e-5)
    assert not any(torch.equal(outputs[i], outputs[i - 1]) for i in range(3))


def test_lam_chooses_statistics_and_amplitude(x: Tensor) -> None:
    model = trained()
    outputs = [AtLambda(model, lam)(x) for lam in (0.0, 0.2, 0.7, 1.0)]
    assert all((a - b).abs().max() > 1e-3 for i, a in enumerate(outputs) for b in outputs[:i])
    assert not torch.equal(AtLambda(model, 0.5, noise_seed=1)(x), AtLambda(model, 0.5, noise_seed=2)(x))
    assert torch.equal(AtLambda(model, 0.0, noise_seed=1)(x), AtLambda(model, 0.0, noise_seed=2)(x))


@pytest.mark.parametrize("lam", [-0.01, 1.01, float("nan")])
def test_a_lam_outside_the_unit_interval_is_refused(lam: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        AtLambda(trained(), lam)


def test_width_is_a_multiplier(x: Tensor) -> None:
    model = trained("float_slim", **{"model.widths": "8,16"})
    for index, mult in enumerate(model.width_mults):
        network = AtLambda(model, 1.0, width=mult, noise_seed=7)
        wanted = model(x, model.condition(1.0, width=index, noise=model.draw_noise(7)))
        assert network.width == mult and torch.allclose(network(x), wanted, atol=1e-5)
    held = AtLambda(model, 1.0, width=np.float32(0.5))  # type: ignore[arg-type]
    assert torch.equal(held(x), AtLambda(model, 1.0, width=0.5)(x))


@pytest.mark.parametrize(("index", "mult"), [(0, "1.0"), (1, "0.5"), (np.int64(1), "0.5"), (True, "0.5")])
def test_a_former_width_index_is_refused(index: int, mult: str) -> None:
    model = trained("float_slim", **{"model.widths": "8,16"})
    with pytest.raises(ConfigError, match=rf"^width=1?0?: .*width={mult}"):
        AtLambda(model, 0.5, width=index)


@pytest.mark.parametrize("width", [0.5, 0.75, 0, 2, -1, 1.5, float("nan")])
def test_a_network_of_one_width_refuses_others(width: float) -> None:
    with pytest.raises(ConfigError, match=r"^width=.*(valid: 1$|write width=1.0)"):
        AtLambda(trained(), 0.5, width=width)
    assert AtLambda(trained(), 0.5, width=1).width == 1


def test_a_condition_takes_no_fraction_as_width() -> None:
    with pytest.raises(ConfigError, match=r"^width=0.5: .*0 to 0"):
        trained().condition(0.5, width=0.5)  # type: ignore[arg-type]


def test_a_network_in_training_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="eval"):
        AtLambda(trained().train(), 0.5)


def test_forwards_do_not_change_random_state(x: Tensor) -> None:
    network = AtLambda(trained(), 0.5)
    torch.manual_seed(3)
    without = [torch.rand(4) for _ in range(3)]
    torch.manual_seed(3)
    with_calls = []
    for _ in range(3):
        with_calls.append(torch.rand(4))
        network(x)
        AtLambda(network.model, 0.7)(x)
    assert all(torch.equal(a, b) for a, b in zip(without, with_calls, strict=True))


def test_it_moves_with_its_folded_weights(x: Tensor) -> None:
    wanted = AtLambda(trained(), 0.5)(x)
    double = AtLambda(trained(), 0.5).to(torch.float64)
    found = double(x.double())
    assert found.dtype == torch.float64
    assert torch.allclose(found, wanted.double(), atol=1e-5)
    meta = AtLambda(trained(), 0.5).to("meta")
    assert meta(x.to("meta")).device.type == "meta"


def test_folding_and_attacking_do_not_change_the_network(x: Tensor) -> None:
    model = trained()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    network = AtLambda(model, 0.5)
    pgd(lambda at, step: network(at), x, torch.zeros(5, dtype=torch.int64), AttackConfig(), torch.zeros_like(x))
    assert list(model.state_dict()) == list(before)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    assert list(network.state_dict()) == [f"model.{name}" for name in before]


def test_restoring_the_found_mode_leaves_eval_mode() -> None:
    model = trained()
    network = AtLambda(model, 0.5)
    mode = network.training
    network.eval()
    network.train(mode)
    assert not any(module.training for module in model.modules())


def test_later_weight_changes_have_no_effect(x: Tensor) -> None:
    model = trained("pgd_at")
    network = AtLambda(model, 1.0)
    wanted = network(x)
    with torch.no_grad():
        model.backbone.units[0].conv.weight.zero_()
    assert torch.equal(network(x), wanted)


def test_gradients_reach_the_image(x: Tensor) -> None:
    leaf = x.clone().requires_grad_()
    AtLambda(trained(), 1.0)(leaf).sum().backward()
    assert leaf.grad is not None
    assert (leaf.grad != 0).any()


def test_uniform_conditions_are_recognised_by_shape() -> None:
    assert Condition(torch.zeros(1), True).uniform
    assert not Condition(torch.zeros(4), torch.ones(4, dtype=torch.bool)).uniform


@pytest.mark.parametrize(
    ("options", "lam", "amplitude", "route"),
    [
        ((0.0,), 0.0, 0.0, False),
        ((0.0,), 0.2, 0.2, True),
        ((0.0,), 1.0, 1.0, True),
        ((0.5,), 0.25, 0.5, False),
        ((0.5,), 0.5, 1.0, False),
        ((0.5,), 0.75, 0.5, True),
        ((0.5,), 1.0, 1.0, True),
        ((1.0,), 1.0, 1.0, False),
        ((0.0, "linear"), 0.2, 0.2, True),
        ((0.5, "linear"), 0.25, 0.25, False),
        ((0.5, "linear"), 0.75, 0.75, True),
        ((0.0, "constant"), 0.0, 0.0, False),
        ((0.0, "constant"), 0.2, 1.0, True),
        ((0.5, "constant"), 0.5, 0.0, False),
        ((0.5, "constant"), 0.75, 1.0, True),
    ],
)
def test_routing_by_hand(options: tuple[Any, ...], lam: float, amplitude: float, route: bool) -> None:
    routing = Routing(*options)
    whole = routing.at(lam)
    assert whole.lam.tolist() == pytest.approx([amplitude])
    assert whole.route is route
    rows = routing.at(torch.tensor([lam, lam]))
    assert rows.lam.tolist() == pytest.approx([amplitude] * 2)
    assert isinstance(rows.route, Tensor)
    assert rows.route.tolist() == [route] * 2


@pytest.mark.parametrize(
    ("lam", "split"),
    [
        ([0.0, 0.0, 0.1, 1.0], 2),
        ([0.0, 1.0, 0.1], 1),
        ([0.0, 0.0], 2),
        ([0.2, 1.0], 0),
        ([0.0, 1.0, 0.0], None),
        ([1.0, 0.0], None),
        ([0.5], 0),
        ([], 0),
    ],
)
def test_a_condition_knows_where_its_clean_rows_end(lam: list[float], split: int | None) -> None:
    assert Routing().at(torch.tensor(lam)).split == split


@pytest.mark.gpu
def test_a_noise_seed_means_one_network_everywhere(x: Tensor) -> None:
    here = AtLambda(trained(), 0.7, noise_seed=3)
    there = AtLambda(trained().cuda(), 0.7, noise_seed=3)
    assert there.cond_lam.is_cuda
    assert torch.allclose(there(x.cuda()).cpu(), here(x), atol=1e-3)
