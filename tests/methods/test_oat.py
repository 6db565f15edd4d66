"""OAT: which rows go where, what the loss is, what a step costs, and which settings do not fit."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from distcond.config.overrides import resolve
from distcond.errors import ConfigError
from distcond.layers.dual_norm import DualBatchNorm2d
from distcond.layers.film import FiLM
from distcond.methods.step_context import StepRandomness
from distcond.methods.train_step import TrainStep
from distcond.models.conditional import AtLambda
from distcond.runs.build import build_model, build_step
from distcond.samplers.distributions import FIXED_SHARE
from support.groups import quick

CPU = torch.device("cpu")
LAM = torch.tensor([0.0, 0.0, 0.0, 0.1, 0.4, 0.4, 1.0, 1.0])


def images(n: int = 8) -> Tensor:
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def labels(n: int = 8) -> Tensor:
    return torch.arange(n) % 10


def draws(lam: Tensor = LAM) -> StepRandomness:
    return StepRandomness(seed=0, epoch=0, step=0, rank=0, world=1, lam=lam)


def stepped(tiny: Any, **settings: Any) -> TrainStep:
    config = tiny("oat", attack__num_steps=2, **settings)
    return build_step(config, build_model(config), CPU)


class Pass(NamedTuple):
    """What one forward looked like from inside."""

    training: bool
    lam: list[float]
    route: bool | list[bool]
    x: Tensor  # what went into the first normalisation
    logits: Tensor


def watch(model: Any) -> list[Pass]:
    """Every later forward of `model`, in order."""
    seen: list[Pass] = []
    inside: list[Tensor] = []
    model.backbone.units[0].norm.register_forward_pre_hook(lambda module, args: inside.append(args[0].detach()))

    def after(module: nn.Module, args: Any, logits: Tensor) -> None:
        cond = args[1]
        route = cond.route.tolist() if isinstance(cond.route, Tensor) else cond.route
        seen.append(Pass(module.training, cond.lam.tolist(), route, inside[-1], logits.detach()))

    model.register_forward_hook(after)
    return seen


def test_passes_are_clean_attack_adversarial_with_own_statistics(tiny: Any) -> None:
    step = stepped(tiny, precision__fold_attack="false")
    seen = watch(step.model.train())
    step(images(), labels(), draws())
    clean, attack, adversarial = seen[0], seen[1:-1], seen[-1]
    assert clean.training
    assert clean.lam == LAM.tolist()
    assert clean.route == [False] * 3 + [True] * 5
    assert len(attack) == 2
    for at in (*attack, adversarial):
        assert at.lam == LAM[3:].tolist()
        assert at.route is True
    assert [at.training for at in (*attack, adversarial)] == [False, False, True]


def test_running_statistics_are_those_of_the_routing_table(tiny: Any) -> None:
    step = stepped(tiny)
    seen = watch(step.model.train())
    step(images(), labels(), draws())
    norm = step.model.backbone.units[0].norm
    clean, adversarial = (at.x for at in seen if at.training)
    assert torch.allclose(norm.clean.running_mean, 0.1 * clean[:3].mean((0, 2, 3)), atol=1e-6)
    wanted = 0.9 * 0.1 * clean[3:].mean((0, 2, 3)) + 0.1 * adversarial.mean((0, 2, 3))
    assert torch.allclose(norm.adv.running_mean, wanted, atol=1e-6)


@pytest.mark.parametrize(("lam", "branch"), [(0.0, "clean"), (0.1, "adv"), (1.0, "adv")])
def test_lam_above_zero_tests_with_adversarial_statistics(tiny: Any, lam: float, branch: str) -> None:
    model = stepped(tiny).model.eval()
    before = AtLambda(model, lam)(images())
    for other in ("clean", "adv"):
        for module in model.modules():
            if isinstance(module, DualBatchNorm2d):
                getattr(module, other).running_mean += 1
        assert torch.equal(AtLambda(model, lam)(images()), before) is (other == "clean" and branch == "adv")


def test_loss_is_the_mean_weighed_by_lam(tiny: Any) -> None:
    step = stepped(tiny)
    seen = watch(step.model.train())
    outcome = step(images(), labels(), draws())
    clean, adversarial = (at.logits for at in seen if at.training)
    on_clean = F.cross_entropy(clean, labels(), reduction="none")
    on_adversarial = torch.cat([torch.zeros(3), F.cross_entropy(adversarial, labels()[3:], reduction="none")])
    assert torch.allclose(outcome.loss, ((1 - LAM) * on_clean + LAM * on_adversarial).mean(), atol=1e-6)
    correct = [(clean.argmax(1) == labels()).sum(), 8, (adversarial.argmax(1) == labels()[3:]).sum(), 5]
    assert outcome.tally.tolist() == [int(number) for number in correct]


def test_the_folded_attack_finds_the_same_images(tiny: Any) -> None:
    moved = []
    for fold in ("true", "false"):
        step = stepped(tiny, precision__fold_attack=fold)
        seen = watch(step.model.train())
        step(images(), labels(), draws())
        moved.append(seen[-1].x)
    assert torch.allclose(*moved, atol=1e-5)


def test_the_attack_uses_each_rows_lam(tiny: Any) -> None:
    moved = []
    for lam in (LAM, torch.tensor([0.0, 0.0, 0.0, 0.1, 0.4, 1.0, 1.0, 1.0])):
        step = stepped(tiny)
        seen = watch(step.model.train())
        step(images(), labels(), draws(lam))
        moved.append(seen[-1].x)
    assert [torch.allclose(a, b, atol=1e-6) for a, b in zip(*moved, strict=True)] == [True, True, False, True, True]


@pytest.mark.parametrize("lam", [LAM, torch.zeros(8), torch.ones(8), torch.full((8,), 0.4)])
def test_any_mixture_of_rows_trains(tiny: Any, lam: Tensor) -> None:
    step = stepped(tiny)
    step.model.train()
    outcome = step(images(), labels(), draws(lam))
    outcome.loss.backward()
    assert outcome.loss.isfinite()
    if lam is LAM:
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in step.model.parameters())


def test_ranks_without_adversarial_rows_have_every_gradient(tiny: Any) -> None:
    step = stepped(tiny)
    step.model.train()
    lam = torch.tensor([0.0, 0.0, 0.0, 0.4])
    outcome = step(images(2), labels(2), StepRandomness(seed=0, epoch=0, step=0, rank=0, world=2, lam=lam))
    outcome.loss.backward()
    assert [name for name, p in step.model.named_parameters() if p.grad is None] == []


def flops(step: TrainStep, lam: Tensor) -> tuple[float, float]:
    """(convolutions, everything) of one step over (convolutions, everything) of one forward of the batch."""
    x, y = images(len(lam)), labels(len(lam))
    step.model.train()
    with FlopCounterMode(display=False) as one:
        step.model(x, step.model.condition(lam))
    with FlopCounterMode(display=False) as all_of_it:
        step(x, y, draws(lam)).loss.backward()
    counts = [counter.get_flop_counts()["Global"] for counter in (all_of_it, one)]
    convolved = [sum(number for op, number in count.items() if "convolution" in str(op)) for count in counts]
    total = [sum(count.values()) for count in counts]
    return convolved[0] / convolved[1], total[0] / total[1]


@pytest.mark.parametrize("fold", ["true", "false"])
@pytest.mark.parametrize(("skip", "wanted"), [("false", 17.08), ("true", 16.58)])
def test_a_step_costs_its_floor(tiny: Any, skip: str, wanted: float, fold: str) -> None:
    settings = {"precision__fold_attack": fold, "method__skip_clean_of_adversarial": skip}
    config = tiny("oat", attack__num_steps=7, model__widths="32,64", **settings)
    step = build_step(config, build_model(config), CPU)
    lam = torch.cat([torch.zeros(22), torch.tensor([0.1, 0.2, 0.3, 0.4]).repeat_interleave(21), torch.ones(22)])
    convolved, total = flops(step, lam)
    skipped = 3 * (22 - 106 / 5) / 128 if skip == "true" else 0  # 22 rows at lam = 1 here, 21.2 on average
    assert convolved == pytest.approx(wanted - skipped, rel=0.005)
    assert total < wanted * 1.005


def test_clean_passes_may_skip_rows_at_one(tiny: Any) -> None:
    step = stepped(tiny, method__skip_clean_of_adversarial="true")
    seen = watch(step.model.train())
    outcome = step(images(), labels(), draws())
    clean, adversarial = (at for at in seen if at.training)
    assert clean.lam == LAM[:6].tolist()
    assert adversarial.lam == LAM[3:].tolist()
    on_clean = F.cross_entropy(clean.logits, labels()[:6], reduction="none") * (1 - LAM[:6])
    on_adversarial = F.cross_entropy(adversarial.logits, labels()[3:], reduction="none") * LAM[3:]
    assert torch.allclose(outcome.loss, (on_clean.sum() + on_adversarial.sum()) / 8, atol=1e-6)
    seen.clear()
    step(images(), labels(), draws(torch.ones(8)))
    assert [at.training for at in seen] == [False, False, True]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"eval__lam_grid": "0,0.7"}, r"eval.lam_grid=0.7: .*method.lam_choices=0,0.1,0.2,0.3,0.4,1"),
        ({"sampler__choices": "0,0.25,1"}, r"sampler=fixed_share .*lam=0.25: "),
        ({"sampler": "uniform"}, r"sampler=uniform .*lam="),
        ({"method__dim": 5}, r"method.dim=5: "),
        ({"method__lam_choices": "0,1", "method__interpolate": "true", "sampler__choices": "0,1",
          "eval__lam_grid": "0,0.5,1"}, ""),
        ({"method__encoding": "none", "sampler": "uniform", "eval__lam_grid": "0,0.55,0.9"}, ""),
    ],
)  # fmt: skip
def test_lam_without_code_is_refused_before_running(tiny: Any, settings: Any, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted) if wanted else nullcontext():
        assert build_model(tiny("oat", **settings)).encode is not None


@pytest.mark.parametrize("method", ["oat", "oats"])
@pytest.mark.parametrize("recipe", ["float_digits", "pgd_at_digits", "smart_cifar10_resnet20"])
def test_replacing_a_recipes_method_brings_its_own_grid(recipe: str, method: str) -> None:
    assert build_model(resolve(recipe, {"method": method, "model.widths": "4,4,4"})).encode is not None


def test_trained_networks_refuse_lam_without_code(tiny: Any) -> None:
    model = build_model(tiny("oat")).eval()
    with pytest.raises(ConfigError, match=r"lam=0.7: .*0,0.1,0.2,0.3,0.4,1"):
        AtLambda(model, 0.7)
    with pytest.raises(ConfigError, match=r"lam=0.7: "):
        model.condition(torch.tensor([0.1, 0.7]))


@pytest.mark.parametrize(("encoding", "wanted"), [("none", 31_421_002), ("rand", 33_355_466)])
def test_parameters_are_counted_as_in_the_paper(encoding: str, wanted: int) -> None:
    model = build_model(resolve("oat_cifar10_resnet34", {"method.encoding": encoding}))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == wanted
    assert sum(isinstance(module, FiLM) for module in model.modules()) == 33
    second = sum(p.numel() for name, p in model.named_parameters() if ".norm.adv." in name)
    if encoding == "none":
        assert parameters - second == 31_403_978  # the authors' count, 31.4040 M, has one normalisation


def test_default_sampler_is_the_papers(tiny: Any) -> None:
    config = tiny("oat")
    lam = FIXED_SHARE.draw(config.sampler, 128, torch.Generator().manual_seed(0))
    assert int((lam == 0).sum()) == 22
    assert set(lam.tolist()) == set(torch.tensor(config.method.lam_choices).tolist())


# All codes but "none" are rows of one table, which OATS has, too.
@pytest.mark.parametrize("encoding", quick("none", of=["none", "rand"]))
def test_a_training_pass_traces_whole(tiny: Any, encoding: str) -> None:
    model = build_model(tiny("oat", method__encoding=encoding))
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for lam in (LAM, 0.4):
        compiled(images(), model.condition(lam)).sum().backward()
