"""Every network with every method: shapes, gradients, saving, compilation; and the parameter counts of the papers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distcond.condition import Condition
from distcond.config.overrides import resolve
from distcond.engine.build import build_model
from distcond.errors import ConfigError
from distcond.models.conditional import ConditionalModel
from distcond.registry import table

EVERY = [(method, model) for method in table("method") for model in table("model")]
#: Compiling takes seconds: one network of each architecture, and each method once.
ARCHITECTURES = {value.build: name for name, value in table("model").items()}.values()
COMPILED = sorted({("float", model) for model in ARCHITECTURES} | {(method, "small_cnn") for method in table("method")})
LAM = torch.tensor([0.0, 0.4, 1.0, 1.0, 0.0, 0.4])


def images(n: int = 6, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def conditions(net: ConditionalModel) -> Iterator[Condition]:
    """Rows of both kinds, with noise, at every width."""
    for width in range(len(net.width_mults)):
        yield net.condition(LAM, width=width, noise=net.draw_noise(3))


@pytest.mark.parametrize(("method", "model"), EVERY)
def test_logits_have_a_row_per_image_and_every_parameter_a_gradient(tiny: Any, method: str, model: str) -> None:
    net = build_model(tiny(method, model))
    for cond in conditions(net):
        logits = net(images(), cond)
        assert logits.shape == (6, 10)
        assert logits.isfinite().all()
        logits.square().sum().backward()
    without = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert without == []


@pytest.mark.parametrize(("method", "model"), EVERY)
def test_a_saved_network_is_the_network(tiny: Any, method: str, model: str, tmp_path: Any) -> None:
    net = build_model(tiny(method, model))
    for cond in conditions(net):
        net(images(seed=1), cond)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    other = build_model(tiny(method, model, seed=5))
    other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True))
    for cond in conditions(net.eval()):
        assert torch.equal(other.eval()(images(), cond), net(images(), cond))


@pytest.mark.parametrize(("method", "model"), COMPILED)
def test_the_compiler_takes_it_whole_and_once_for_all_lam(tiny: Any, method: str, model: str) -> None:
    net = build_model(tiny(method, model)).eval()
    graphs = 0

    def counted(module: Any, _: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return module

    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend=counted)
    routes = set()
    for lam in (0.4, 1.0, 0.4, 1.0):
        cond = net.condition(lam, noise=net.draw_noise(int(10 * lam)))
        assert torch.allclose(compiled(images(), cond), net(images(), cond), atol=1e-5)
        routes.add(cond.route)
    assert graphs <= len(routes), "one per path, none per lam"
    for seed in (1, 2):
        cond = net.condition(LAM[torch.randperm(6)], noise=net.draw_noise(seed))
        assert torch.allclose(compiled(images(), cond), net(images(), cond), atol=1e-5)
    assert graphs <= len(routes) + 1, "one more for lam per row, where the method looks at it"
    torch._dynamo.reset()


@pytest.mark.parametrize("method", ["float", "pgd_at"])
def test_a_training_pass_traces_whole_and_once(tiny: Any, method: str) -> None:
    net = build_model(tiny(method))
    graphs = 0

    def counted(module: Any, _: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return module

    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend=counted)
    for seed in range(3):
        compiled(images(seed=seed), net.condition(1.0, noise=net.draw_noise(seed))).sum().backward()
    assert graphs == 1
    torch._dynamo.reset()


def count(model: str, method: str) -> int:
    config = resolve("float_digits", {"method": method, "model": model})
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build_model(config).parameters())


@pytest.mark.parametrize(
    ("model", "method", "wanted"),
    [
        ("resnet34", "pgd_at", 21_282_122),
        ("resnet34", "float", 21_299_182),
        ("resnet18", "pgd_at", 11_173_962),
    ],
)
def test_parameters_are_counted_as_in_the_papers(model: str, method: str, wanted: int) -> None:
    assert count(model, method) == wanted


def test_float_adds_an_amplitude_per_convolution_and_the_second_normalisation() -> None:
    with torch.device("meta"):
        net = build_model(resolve("float_digits", {"model": "resnet34", "method": "float"}))
    names = dict(net.named_parameters())
    alphas = [name for name in names if name.endswith("alpha")]
    second = sum(tensor.numel() for name, tensor in names.items() if ".norm.adv." in name)
    assert len(alphas) == 36
    assert count("resnet34", "float") - count("resnet34", "pgd_at") == 36 + second


def test_pixels_are_normalised_inside(tiny: Any) -> None:
    seen: list[Tensor] = []

    class Look(nn.Module):
        def forward(self, x: Tensor, cond: Condition) -> Tensor:
            seen.append(x)
            return x.mean((2, 3))

    net = ConditionalModel(Look(), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0))
    net(images(), net.condition(0.0))
    assert torch.allclose(seen[0][:, 1], (images()[:, 1] - 0.2) / 0.25)


def test_initial_weights_are_a_function_of_the_seed_and_leave_the_global_stream_alone(tiny: Any) -> None:
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


def test_stages_of_a_resnet_need_a_depth_and_a_width_each() -> None:
    with pytest.raises(ConfigError, match=r"model.depths=.*model.widths=\(4, 8\)"):
        build_model(resolve("float_digits", {"model": "resnet18", "model.widths": "4,8"}))


@pytest.mark.parametrize("model", table("model"))
def test_it_takes_images_of_the_papers_size_too(tiny: Any, model: str) -> None:
    net = build_model(tiny("float", model)).eval()
    assert net(torch.rand(2, 3, 32, 32), net.condition(1.0, noise=net.draw_noise(0))).shape == (2, 10)
