"""Every network of every set of layers: shapes, gradients, saving, folding, compilation.

Methods choose among these sets of layers; what they do with the networks is in test_models_with_methods.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from distcond.layers import layer_set
from distcond.layers.condition import Condition
from distcond.layers.encode import Codebook, Encoder, RawLam
from distcond.layers.layer_set import LayerSet, SlimmableWidths
from distcond.models.conditional import AtLambda, ConditionalModel
from distcond.models.model import Model
from distcond.registry import table
from support.groups import quick


class Kind(NamedTuple):
    """A set of layers, and what a network of them needs besides."""

    layers: LayerSet
    encode: Callable[[], Encoder] | None = None
    width_mults: tuple[float, ...] = (1.0,)


MULTS = (1.0, 0.5)
KINDS = {
    "plain": Kind(layer_set.plain_layers()),
    "dual_bn": Kind(layer_set.dual_bn_layers()),
    "noisy": Kind(layer_set.noisy_layers()),
    "masked_noisy": Kind(layer_set.masked_noisy_layers()),
    "masked": Kind(layer_set.masked_layers()),
    "paired": Kind(layer_set.paired_layers()),
    "film": Kind(layer_set.film_layers(1), RawLam),
    "slimmable": Kind(layer_set.slimmable_layers(SlimmableWidths(MULTS, shared_head=False)), width_mults=MULTS),
    "slimmable_film": Kind(
        layer_set.slimmable_film_layers(SlimmableWidths(MULTS), 4),
        lambda: Codebook("rand", (0.0, 0.4, 0.7, 1.0), 4),
        MULTS,
    ),
    "slimmable_noisy": Kind(layer_set.slimmable_noisy_layers(SlimmableWidths(MULTS)), width_mults=MULTS),
}
#: One network per way of building one: the others of a family differ in numbers that are made small here.
ARCHITECTURES = sorted({value.build: name for name, value in table("model").items()}.values())
#: Quick enough to compile: everything that a condition may hold, and one network of blocks.
FEW = [("small_cnn", "masked_noisy"), ("small_cnn", "slimmable_film"), ("preact_resnet18", "noisy")]
#: Each set of layers in the smallest network, and one set in each network.
COMPILED = [
    pytest.param(model, kind, marks=() if (model, kind) in FEW else pytest.mark.cluster)
    for model in ARCHITECTURES
    for kind in KINDS
    if model == "small_cnn" or kind == "noisy"
]
LAM = torch.tensor([0.0, 0.4, 1.0, 1.0, 0.0])


def sizes(model: str) -> tuple[int, int]:
    """Two sizes of images; a large stem leaves a quarter."""
    return (32, 48) if model == "resnet50" else (8, 32)


def images(size: int, seed: int = 0) -> Tensor:
    return torch.rand(len(LAM), 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def network(tiny: Any) -> Callable[..., ConditionalModel]:
    """`network(model, kind)`: statistics, affine parameters and masks are not those of the start."""

    def made(model: str, kind: str, seed: int = 0, **smaller: str) -> ConditionalModel:
        found: Model = table("model")[model]
        layers, encode, width_mults = KINDS[kind]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            backbone = found.build(layers, 10, tiny("pgd_at", model, **smaller).model)
        source = torch.Generator().manual_seed(seed + 1)
        for name, tensor in backbone.state_dict().items():
            if tensor.dtype == torch.bool:
                tensor.copy_(torch.rand(tensor.shape, generator=source) < 0.7)
            elif ".norm." in name and tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=source))
        mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
        return ConditionalModel(
            backbone, mean, std, encode=encode() if encode is not None else None, width_mults=width_mults
        )

    return made


def test_every_set_of_layers_is_here() -> None:
    makers = {name.removesuffix("_layers") for name in vars(layer_set) if name.endswith("_layers")}
    assert makers == set(KINDS)


def conditions(net: ConditionalModel) -> Iterator[Condition]:
    """Rows of both kinds, with noise, at every width."""
    for width in range(len(net.width_mults)):
        yield net.condition(LAM, width=width, noise=net.draw_noise(3))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ARCHITECTURES)
def test_logits_fit_images_and_every_parameter_learns(network: Any, model: str, kind: str) -> None:
    for size in sizes(model):
        net = network(model, kind)
        for cond in conditions(net):
            logits = net(images(size), cond)
            assert logits.shape == (len(LAM), 10)
            assert logits.isfinite().all()
            (logits * torch.linspace(-1, 1, 10)).square().sum().backward()
        grads = {name: parameter.grad for name, parameter in net.named_parameters()}
        assert [name for name, grad in grads.items() if grad is None or not grad.isfinite().all()] == []
        # A part of the network that is computed but not used would have a gradient, of zero.
        dead = [name for name, grad in grads.items() if name.endswith(".conv.weight") and not grad.any()]
        assert dead == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ARCHITECTURES)
def test_saved_networks_load_equal(network: Any, model: str, kind: str, tmp_path: Any) -> None:
    net, other, size = network(model, kind), network(model, kind, seed=5), sizes(model)[0]
    for cond in conditions(net):
        net(images(size, seed=1), cond)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    other.load_state_dict(torch.load(tmp_path / "net.pt", weights_only=True), strict=True)
    for cond in conditions(net.eval()):
        assert torch.equal(other.eval()(images(size), cond), net(images(size), cond))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", ARCHITECTURES)
def test_folded_networks_are_equal(network: Any, model: str, kind: str) -> None:
    net = network(model, kind).eval()
    for size in sizes(model):
        for cond in uniform_conditions(net):
            folded = net.fold(cond)
            assert folded.folded is not None and len(folded.folded) == len(net.units)
            assert close(net(images(size), folded), net(images(size), cond))
    lam, noise = (0.4, net.draw_noise(7)) if net.noise_size else (0.4, None)
    held = AtLambda(net, lam, net.width_mults[-1], noise_seed=7)
    assert close(held(images(size)), net(images(size), net.condition(lam, width=held.width_index, noise=noise)))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "noisy" not in kind])
@pytest.mark.parametrize("model", ARCHITECTURES)
def test_folding_for_lam_per_row_changes_nothing(network: Any, model: str, kind: str) -> None:
    net, x = network(model, kind).eval(), images(sizes(model)[0])
    for cond in conditions(net):
        cond = cond._replace(route=True)
        assert close(net(x, net.fold(cond)), net(x, cond))


def uniform_conditions(net: ConditionalModel) -> Iterator[Condition]:
    """Both routes, with noise, at every width."""
    for width in range(len(net.width_mults)):
        for lam in (0.0, 0.4, 1.0):
            yield net.condition(lam, width=width, noise=net.draw_noise(3))


def close(found: Tensor, wanted: Tensor) -> bool:
    """To 1e-5 of what the logits spread over."""
    return bool((found - wanted).abs().max() <= 1e-5 * (1 + wanted.abs().max()))


def shallow(model: str) -> dict[str, str]:
    """Less to compile: one block per stage."""
    return {} if model == "small_cnn" else {"model__depths": "1,1"}


@pytest.mark.parametrize(("model", "kind"), COMPILED)
def test_compiles_whole_and_once_for_all_lam(network: Any, model: str, kind: str) -> None:
    net, x, graphs = network(model, kind, **shallow(model)).eval(), images(sizes(model)[0]), 0

    def counted(module: Any, _: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return module

    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend=counted)
    routes = set()
    for lam in (0.4, 1.0, 0.0, 0.7):
        cond = net.condition(lam, width=len(net.width_mults) - 1, noise=net.draw_noise(int(10 * lam)))
        assert close(compiled(x, cond), net(x, cond))
        routes.add(cond.route)
    assert graphs <= len(routes), "one per path, none per lam"
    for seed in (1, 2):
        order = torch.randperm(len(LAM), generator=torch.Generator().manual_seed(seed))
        cond = net.condition(LAM[order], noise=net.draw_noise(seed))
        assert close(compiled(x, cond), net(x, cond))
    assert graphs <= len(routes) + 1, "one more for lam per row, where the method looks at it"
    torch._dynamo.reset()


@pytest.mark.parametrize("model", quick("small_cnn", of=["small_cnn", "preact_resnet18"]))
def test_a_training_pass_traces_whole_and_once(network: Any, model: str) -> None:
    net, x, graphs = network(model, "noisy", **shallow(model)), images(sizes(model)[0]), 0

    def counted(module: Any, _: Any) -> Any:
        nonlocal graphs
        graphs += 1
        return module

    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend=counted)
    for seed in range(3):
        compiled(x, net.condition(1.0, noise=net.draw_noise(seed))).sum().backward()
    assert graphs == 1
    torch._dynamo.reset()


@pytest.mark.parametrize("model", ARCHITECTURES)
def test_units_cover_the_network(network: Any, model: str) -> None:
    net = network(model, "film")
    inside = {id(module) for unit in net.units for module in unit.modules()}
    outside = [name for name, part in net.backbone.named_modules() if _does_something(part) and id(part) not in inside]
    assert outside == ["linear"], "everything else folds"


def _does_something(module: nn.Module) -> bool:
    return next(module.parameters(recurse=False), None) is not None
