"""SMART: two paths through one network, dual BN where the masks are full, two operating points."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.layers.condition import Condition, Routing
from distcond.layers.masked import MaskedConv2d
from distcond.methods.smart import METHOD
from distcond.methods.step_context import StepRandomness
from distcond.methods.train_step import TrainStep
from distcond.models.conditional import AtLambda, ConditionalModel
from distcond.runs.build import build_model, build_step

DRAWS = StepRandomness(1, 2, 3, 0, 1, torch.tensor([0.0] * 4 + [1.0] * 4))
Y = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])
CPU = torch.device("cpu")


def images() -> Tensor:
    return torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def step_of(config: Config) -> TrainStep:
    return build_step(config, build_model(config), CPU)


@pytest.fixture
def config(tiny: Any) -> Any:
    def made(**settings: Any) -> Config:
        fast = {"attack__num_steps": 2, "precision__train": "float32", "model": "resnet18"}
        found: Config = tiny("smart", **fast | settings)
        return found

    return made


def masked(config: Config) -> ConditionalModel:
    """A network with different masks and statistics on its paths, in eval mode."""
    model = build_model(config)
    masks = METHOD.sparsity(config, model)
    assert masks is not None
    masks.start("train")
    source = torch.Generator().manual_seed(1)
    for name, tensor in model.backbone.state_dict().items():
        if ".norm" in name and tensor.is_floating_point():
            tensor.copy_(0.5 + torch.rand(tensor.shape, generator=source))
    return model.eval()


@pytest.mark.parametrize("fold", [True, False])
def test_full_masks_step_exactly_as_dual_bn(config: Any, fold: bool) -> None:
    full = step_of(config(precision__fold_attack=fold))
    dense = step_of(config(precision__fold_attack=fold, method__density=1))
    assert any(isinstance(layer, MaskedConv2d) for layer in full.modules())
    assert not any(isinstance(layer, MaskedConv2d) for layer in dense.modules())
    state = {name: tensor for name, tensor in full.model.state_dict().items() if not name.endswith("_mask")}
    dense.model.load_state_dict(state)
    losses = [step(images(), Y, DRAWS).loss for step in (full, dense)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    for found, wanted in zip(full.model.parameters(), dense.model.parameters(), strict=True):
        assert torch.equal(found.grad, wanted.grad)
    after = dense.model.state_dict()
    assert all(torch.equal(tensor, full.model.state_dict()[name]) for name, tensor in after.items())


def test_mixed_rows_equal_the_rows_of_each_kind(config: Any) -> None:
    model, x = masked(config()), images()
    route = torch.tensor([True, False, False, True, True, False, True, False])
    mixed = model(x, Condition(route.float(), route))
    clean, adv = (model(x, model.condition(lam)) for lam in (0.0, 1.0))
    assert torch.allclose(mixed, torch.where(route[:, None], adv, clean), atol=1e-5)
    assert (clean - adv).abs().max() > 0.01


@pytest.mark.parametrize(("path", "rows"), [(False, slice(0, 4)), (True, slice(4, 8))])
def test_each_half_trains_its_own_path(config: Any, path: bool, rows: slice) -> None:
    """Where the other path keeps nothing, a step is that of one half of the batch."""
    gradients = []
    for part in (slice(0, 8), rows):
        step = step_of(config(attack__num_steps=0, attack__random_start=False))
        layers = [layer for layer in step.modules() if isinstance(layer, MaskedConv2d)]
        for layer in layers:
            layer.mask(not path).zero_()
        step(images()[part], Y[part], StepRandomness(1, 2, 3, 0, 1, DRAWS.lam[part])).loss.backward()
        gradients.append([layer.weight.grad for layer in layers])
    assert all(torch.allclose(whole, 0.5 * half, atol=1e-6) for whole, half in zip(*gradients, strict=True))
    assert all((grad != 0).any() for grad in gradients[0])


def test_weights_kept_by_neither_path_do_nothing(config: Any) -> None:
    model, x = masked(config(method__overlap=1.0)), images()
    wanted = [AtLambda(model, lam)(x) for lam in (0.0, 1.0)]
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, MaskedConv2d):
                assert (layer.weight[~layer.clean_mask] == 0).all()
                layer.weight[~(layer.clean_mask | layer.adv_mask)] = 7.0
    assert all(torch.equal(AtLambda(model, lam)(x), out) for lam, out in zip((0.0, 1.0), wanted, strict=True))


@pytest.mark.parametrize(("lam", "like"), [(0.2, 0.0), (0.5, 0.0), (0.51, 1.0), (0.9, 1.0)])
def test_lam_between_two_points_takes_the_nearer(config: Any, lam: float, like: float) -> None:
    model, x = masked(config()), images()
    assert torch.equal(AtLambda(model, lam)(x), AtLambda(model, like)(x))
    assert METHOD.routing(config().method) == Routing(0.5)


def test_it_evaluates_at_two_points(config: Any) -> None:
    assert METHOD.lam_grid(config(eval__lam_grid="0,0.2,0.7,1")) == (0.0, 1.0)
    assert METHOD.lam_grid(config(eval__lam_grid="1")) == (1.0,)
    with pytest.raises(ConfigError, match=r"eval.lam_grid: "):
        build_model(config(eval__lam_grid="0.3,0.7"))


def test_the_classifier_is_shared_and_dense(config: Any) -> None:
    model = masked(config(method__density=0.1))
    (linear,) = (layer for layer in model.modules() if isinstance(layer, nn.Linear))
    assert (linear.weight != 0).all()


def test_steps_see_dense_gradients_on_both_paths(config: Any) -> None:
    chosen = config()
    step = step_of(chosen)
    masks = METHOD.sparsity(chosen, step.model)
    assert masks is not None
    masks.start("train")
    step(images(), Y, DRAWS).loss.backward()
    layers = [layer for layer in step.modules() if isinstance(layer, MaskedConv2d)]
    for layer in layers:
        for path in (False, True):
            assert (layer.dense_gradients[path][~layer.mask(path)] != 0).any()
        total = sum(layer.dense_gradients[path] * layer.mask(path) for path in (False, True))
        assert torch.allclose(layer.weight.grad, total, atol=1e-6)


def test_density_one_has_no_masks(config: Any) -> None:
    assert METHOD.sparsity(config(method__density=1), build_model(config(method__density=1))) is None


def test_an_impossible_overlap_is_refused(config: Any) -> None:
    chosen = config(method__density=0.8, method__overlap=0.5)
    with pytest.raises(ConfigError, match=r"method.overlap=0.5: .*0.75"):
        METHOD.sparsity(chosen, build_model(chosen))


def test_a_network_without_the_methods_layers_is_refused(tiny: Any) -> None:
    with pytest.raises(ConfigError, match=r"model: .*MaskedConv2d"):
        METHOD.sparsity(tiny("smart"), build_model(tiny("pgd_at")))
