"""OATS: one step is OAT's at every width, and evaluation covers all widths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from distcond.data.dataset import Arrays
from distcond.data.sources import MemorySource
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.evaluation.make_plan import sweep_plan
from distcond.evaluation.rows import Provenance, sweep_rows
from distcond.evaluation.sweep import sweep
from distcond.layers.dual_norm import DualBatchNorm2d
from distcond.methods import oat
from distcond.methods.step_context import StepContext, StepRandomness
from distcond.models.conditional import AtLambda
from distcond.operating_point import OperatingPoint
from distcond.runs.build import build_model, build_step
from distcond.training.validate import point

LAM = torch.tensor([0.0, 0.0, 0.0, 0.1, 0.4, 0.4, 1.0, 1.0])


def images(n: int = 8) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def labels(n: int = 8) -> Tensor:
    return torch.arange(n) % 10


def draws(lam: Tensor = LAM) -> StepRandomness:
    return StepRandomness(seed=0, epoch=0, step=0, rank=0, world=1, lam=lam)


def stepped(tiny: Any, **settings: Any) -> Any:
    config = tiny("oats", attack__num_steps=2, **settings)
    step = build_step(config, build_model(config), torch.device("cpu"))
    step.model.train()
    return step


def test_each_width_has_clean_attack_and_adversarial_passes(tiny: Any) -> None:
    step, seen = stepped(tiny), []

    def before(module: nn.Module, args: Any) -> None:
        x, cond = args
        seen.append((cond.width, module.training, len(x), cond.lam.tolist(), x.detach()))

    step.model.register_forward_pre_hook(before)
    step(images(), labels(), draws())
    order = [(width, training, rows) for width, training, rows, _, _ in seen]
    one = [(True, 8), (False, 5), (False, 5), (True, 5)]
    assert order == [(width, *each) for width in (0, 1, 2) for each in one]
    assert all(lam == LAM[-rows:].tolist() for _, _, rows, lam, _ in seen)
    starts = [seen[4 * width + 1][4] for width in range(3)]
    assert not torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[1], starts[2])


def test_the_loss_is_the_sum_over_widths(tiny: Any) -> None:
    step = stepped(tiny)
    outcome = step(images(), labels(), draws())
    model = stepped(tiny).model  # anew: a step moves the statistics that the next attack sees
    passes = StepContext(model, step.attack, draws(), step.fold_dtype)
    each = [oat.objective(passes, images(), labels(), width) for width in range(3)]
    assert torch.allclose(outcome.loss, sum(one.loss for one in each), atol=1e-5)
    assert outcome.tally.tolist()[1::2] == [24, 15]
    assert torch.equal(outcome.tally, sum(one.tally for one in each))


@pytest.mark.parametrize("heads", ["shared", "per_width"])
@pytest.mark.parametrize("film_slices", ["separate", "concatenated"])
def test_every_parameter_has_a_gradient(tiny: Any, heads: str, film_slices: str) -> None:
    step = stepped(tiny, method__heads=heads, method__film_slices=film_slices)
    step(images(), labels(), draws()).loss.backward()
    assert [name for name, p in step.model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_normalisation_per_width(tiny: Any) -> None:
    model = build_model(tiny("oats"))
    norms = [module for module in model.modules() if isinstance(module, DualBatchNorm2d)]
    assert len(norms) == 3 * len(model.backbone.units)
    assert [norm.clean.num_features for norm in norms[:3]] == [4, 3, 2]


def flops(call: Any) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return sum(number for op, number in counter.get_flop_counts()["Global"].items() if "convolution" in str(op))


def test_a_step_costs_the_sum_over_widths(tiny: Any) -> None:
    config = tiny("oats", attack__num_steps=7)
    step = build_step(config, build_model(config), torch.device("cpu"))
    step.model.train()
    lam = torch.tensor([0.0] * 3 + [0.1, 0.4, 1.0] * 3).sort().values
    x, y, share = images(12), labels(12), 9 / 12
    wanted = 0.0
    for width, channels in enumerate((4, 3, 2)):
        forward = flops(lambda width=width: step.model(x, step.model.condition(lam, width=width)))
        stem = 2 * 3 * channels * 9 * 64 * 12  # training needs no gradient of the images
        wanted += (3 * forward - stem) * (1 + share) + 7 * 2 * share * forward
    assert flops(lambda: step(x, y, draws(lam)).loss.backward()) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("lam", [0.0, 0.4])
def test_folded_and_row_passes_agree_at_every_width(tiny: Any, lam: float) -> None:
    model = stepped(tiny).model
    for width in range(3):
        model.train()(images(), model.condition(LAM, width=width))
    model.eval()
    for width in range(3):
        wanted = model(images(), model.condition(lam, width=width))
        assert torch.allclose(AtLambda(model, lam, model.width_mults[width])(images()), wanted, atol=1e-5)
        assert torch.allclose(model(images(), model.condition(torch.full((8,), lam), width=width)), wanted, atol=1e-5)


def test_unlisted_widths_are_refused_by_name(tiny: Any) -> None:
    model = build_model(tiny("oats")).eval()
    assert [model.width_index(mult) for mult in (1.0, 0.75, 0.5)] == [0, 1, 2]
    with pytest.raises(ConfigError, match=r"^width=0.6: .*1, 0.75, 0.5"):
        model.width_index(0.6)
    for width in (3, -1, 0.6):
        with pytest.raises(ConfigError, match=rf"^width={width}: .*1, 0.75, 0.5"):
            AtLambda(model, 0.4, width)


@pytest.mark.parametrize("mults", ["0.75,0.5", "1,0.5,0.75", "1,1", "0.5,1"])
def test_widths_must_descend_from_one(tiny: Any, mults: str) -> None:
    with pytest.raises(ConfigError, match=rf"^method.width_mults={mults}: "):
        build_model(tiny("oats", method__width_mults=mults))


def test_evaluation_reports_every_width(tiny: Any) -> None:
    config = tiny("oats")
    model = build_model(config).eval()
    raw = torch.randint(256, (40, 8, 8, 3), generator=torch.Generator().manual_seed(1)).byte()
    y = torch.arange(40) % 10
    source = MemorySource(Arrays(raw.numpy(), y.numpy()))
    attack = replace(config.attack, num_steps=0, random_start=False)
    plan = sweep_plan(config, model, source, attack=attack, points=map(OperatingPoint, (0.0, 1.0)))
    counts = list(sweep(plan, model, source, World(), losses=True))
    assert [(count.lam, count.width) for count in counts] == [(lam, w) for lam in (0.0, 1.0) for w in (1.0, 0.75, 0.5)]
    rows = sweep_rows(plan, counts, Provenance("r", "live", 0))
    assert [row.width for row in rows] == [count.width for count in counts for _ in "sr"]
    assert [point(count)["width"] for count in counts] == [1.0, 0.75, 0.5] * 2
    for count in counts:
        network = AtLambda(model, count.lam, count.width)
        logits = network(raw.permute(0, 3, 1, 2) / 255).detach()
        assert count.sa_correct == int((logits.argmax(1) == y).sum())
        assert count.ra_loss == pytest.approx(float(F.cross_entropy(logits, y)), abs=1e-6)
    assert len({round(count.ra_loss, 5) for count in counts}) == 6


@pytest.mark.parametrize(
    ("heads", "widths"), [("shared", (0, 2)), pytest.param("per_width", (2,), marks=pytest.mark.cluster)]
)
def test_a_training_pass_traces_whole_at_a_width(tiny: Any, heads: str, widths: tuple[int, ...]) -> None:
    model = build_model(tiny("oats", method__heads=heads))
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for width in widths:
        compiled(images(), model.condition(LAM, width=width)).sum().backward()
    torch._dynamo.reset()
