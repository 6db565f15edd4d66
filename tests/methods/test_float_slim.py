"""FLOAT slim: one step is FLOAT's at every width, with fresh noise for the full-width weight."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distcond.errors import ConfigError
from distcond.methods import float as float_method
from distcond.methods.step_context import StepContext, StepRandomness
from distcond.models.conditional import AtLambda
from distcond.runs.build import build_model, build_step

LAM = torch.tensor([0.0] * 4 + [1.0] * 4)


def images() -> Tensor:
    return torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def labels() -> Tensor:
    return torch.arange(8)


def draws(lam: Tensor = LAM) -> StepRandomness:
    return StepRandomness(seed=0, epoch=0, step=0, rank=0, world=1, lam=lam)


def stepped(tiny: Any, **settings: Any) -> Any:
    config = tiny("float_slim", attack__num_steps=2, **settings)
    step = build_step(config, build_model(config), torch.device("cpu"))
    step.model.train()
    return step


def test_each_width_has_a_clean_and_adversarial_half(tiny: Any) -> None:
    step, seen = stepped(tiny, precision__fold_attack="false"), []

    def before(module: nn.Module, args: Any) -> None:
        cond = args[1]
        seen.append((cond.width, module.training, cond.route, cond.noise))

    step.model.register_forward_pre_hook(before)
    step(images(), labels(), draws())
    one = [(True, False), (False, True), (False, True), (True, True)]
    assert [each[:3] for each in seen] == [(width, *each) for width in (0, 1) for each in one]
    noises = [noise for _, _, route, noise in seen if route]
    assert all(noise is None for _, _, route, noise in seen if not route)
    assert {noise.shape for noise in noises} == {(step.model.noise_size,)}
    assert len({tuple(noise.tolist()) for noise in noises}) == 6, "afresh in every forward"


def test_loss_sums_float_over_widths(tiny: Any) -> None:
    step = stepped(tiny)
    outcome = step(images(), labels(), draws())
    passes = StepContext(stepped(tiny).model, step.attack, draws(), step.fold_dtype)
    each = [float_method.objective(passes, images(), labels(), width) for width in range(2)]
    assert torch.allclose(outcome.loss, each[0].loss + each[1].loss, atol=1e-5)
    assert outcome.tally.tolist()[1::2] == [8, 8]


@pytest.mark.parametrize("heads", ["shared", "per_width"])
def test_every_parameter_has_a_gradient(tiny: Any, heads: str) -> None:
    step = stepped(tiny, method__heads=heads)
    step(images(), labels(), draws()).loss.backward()
    assert [name for name, p in step.model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0])
def test_folded_and_row_passes_agree_at_every_width(tiny: Any, lam: float) -> None:
    model = stepped(tiny).model
    for width in range(2):
        model.train()(images(), model.condition(LAM, width=width, noise=model.draw_noise(1)))
    model.eval()
    for width in range(2):
        noise = model.draw_noise(5)
        wanted = model(images(), model.condition(lam, width=width, noise=noise))
        assert torch.allclose(AtLambda(model, lam, model.width_mults[width], 5)(images()), wanted, atol=1e-5)
        rows = model.condition(torch.full((8,), lam), width=width, noise=noise)
        assert torch.allclose(model(images(), rows), wanted, atol=1e-5)


def test_there_is_one_amplitude_for_all_widths(tiny: Any) -> None:
    model = build_model(tiny("float_slim"))
    alphas = [p for name, p in model.named_parameters() if name.endswith("alpha")]
    assert len(alphas) == len(model.backbone.units)
    assert all(alpha.shape == () for alpha in alphas)


def test_unlisted_widths_are_refused_by_name(tiny: Any) -> None:
    model = build_model(tiny("float_slim"))
    with pytest.raises(ConfigError, match=r"^width=0.75: .*1, 0.5"):
        model.width_index(0.75)
    with pytest.raises(ConfigError, match=r"^method.width_mults=0.5: "):
        build_model(tiny("float_slim", method__width_mults="0.5"))


@pytest.mark.cluster  # in the quick group OATS does
def test_a_training_pass_traces_whole_at_every_width(tiny: Any) -> None:
    model = build_model(tiny("float_slim"))
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for width in range(2):
        compiled(images(), model.condition(1.0, width=width, noise=model.draw_noise(width))).sum().backward()
    torch._dynamo.reset()
