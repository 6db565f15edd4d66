"""Recomputed activations: the same gradients and running statistics, bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from distcond.errors import ConfigError
from distcond.methods import recompute
from distcond.methods.step_context import StepRandomness
from distcond.models.conditional import ConditionalModel
from distcond.registry import lookup
from distcond.runs.build import build_model, build_step, check_step
from distcond.seeding import generator
from support.groups import quick, trained

N = 12
Y = torch.arange(N) % 10


def state_after(config: Any, method: str, steps: int = 2) -> dict[str, Tensor]:
    """Gradients, buffers and the masked layers' dense gradients after some steps."""
    model = build_model(config)
    size = 32 if config.model.name == "resnet50" else 8
    x = torch.rand(N, 3, size, size, generator=generator("images"))
    step, sparsity = (
        build_step(config, model, torch.device("cpu")).train(),
        lookup("method", method).sparsity(config, model),
    )
    if sparsity is not None:
        sparsity.start("train")
    for number in range(steps):
        lam = lookup("sampler", config.sampler.name).draw(config.sampler, N, generator("lam")).sort().values
        step(x, Y, StepRandomness(0, 0, number, 0, 1, lam)).loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    found |= dict(model.named_buffers())
    for name, module in model.named_modules():
        found |= {f"{name} {route}": grad for route, grad in getattr(module, "dense_gradients", {}).items()}
    return found


CASES = [(method, "small_cnn") for method in trained()]
CASES += [("float", model) for model in ("resnet20", "preact_resnet18", "vgg16_bn", "resnet50", "wrn40_2")]


@pytest.mark.parametrize(
    ("method", "model"), quick(("float", "small_cnn"), ("smart", "small_cnn"), ("float", "vgg16_bn"), of=CASES)
)
def test_gradients_and_statistics_are_identical(tiny: Any, method: str, model: str) -> None:
    settings = {"attack__num_steps": 1, "precision__train": "bf16", "eval__every": 1, "eval__lam_grid": "0,1"}
    plain, again = (
        state_after(tiny(method, model, precision__recompute=on, **settings), method) for on in (False, True)
    )
    assert plain.keys() == again.keys()
    assert [name for name, tensor in plain.items() if not torch.equal(tensor, again[name])] == []


def test_blocks_run_again_in_training_only(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny("pgd_at", precision__recompute=True, precision__train="float32")
    model: ConditionalModel = build_model(config)
    build_step(config, model, torch.device("cpu"))
    ran, plain = list[int](), type(model.backbone.units[0]).forward  # type: ignore[index,union-attr]

    def counted(self: Any, x: Tensor, cond: Any) -> Tensor:
        ran.append(1)
        out: Tensor = plain(self, x, cond)
        return out

    monkeypatch.setattr(type(model.backbone.units[0]), "forward", counted)  # type: ignore[index,union-attr]
    blocks, x, cond = len(model.backbone.units), torch.rand(4, 3, 8, 8), model.condition(1.0)  # type: ignore[arg-type]
    model.train()(x, cond).sum().backward()
    assert len(ran) == 2 * blocks
    ran.clear()
    model.eval()(x.requires_grad_(), cond).sum().backward()
    assert len(ran) == blocks


def test_a_copy_recomputes_its_own_blocks(tiny: Any) -> None:
    model = build_model(tiny("pgd_at"))
    recompute.recompute_blocks(model.backbone)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert other.train()(torch.rand(4, 3, 8, 8), other.condition(1.0)).abs().sum() > 0


def test_recomputed_shared_statistics_are_refused(tiny: Any) -> None:
    with pytest.raises(ConfigError, match=r"^precision.recompute=true: .*shared_statistics"):
        check_step(tiny("float", precision__recompute=True, shared_statistics=True))
