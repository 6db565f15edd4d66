"""Learning-rate schedules against hand-computed values, and weight decay."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from distcond.config.schema import OptimConfig
from distcond.runs.build import build_model
from distcond.training.optimiser import learning_rate, make_optimiser, set_learning_rate

STEPS, EPOCHS = 5, 20


def rate(epoch: int, step: int = 0, **settings: Any) -> float:
    return learning_rate(OptimConfig(lr=0.4, **settings), epoch, step, STEPS, EPOCHS)


def test_constant_rate_is_the_peak_rate() -> None:
    assert {rate(epoch, step, schedule="constant") for epoch in range(EPOCHS) for step in range(STEPS)} == {0.4}


@pytest.mark.parametrize(("epoch", "wanted"), [(0, 0.4), (5, 0.2 * (1 + math.sqrt(0.5))), (10, 0.2), (19, 0.00246233)])
def test_cosine_changes_per_epoch(epoch: int, wanted: float) -> None:
    assert rate(epoch, schedule="cosine") == pytest.approx(wanted, rel=1e-5)
    assert rate(epoch, 4, schedule="cosine") == rate(epoch, 0, schedule="cosine")


@pytest.mark.parametrize(("epoch", "wanted"), [(0, 0.4), (9, 0.4), (10, 0.04), (14, 0.04), (15, 0.004), (19, 0.004)])
def test_multistep_drops_at_its_milestones(epoch: int, wanted: float) -> None:
    assert rate(epoch, schedule="multistep") == pytest.approx(wanted)


def test_multistep_milestones_can_be_set() -> None:
    other = {"schedule": "multistep", "milestones": (0.3,), "drop_factor": 0.5}
    assert [rate(epoch, **other) for epoch in (5, 6)] == pytest.approx([0.4, 0.2])
    # The papers' 100 and 150 of 200.
    paper = OptimConfig(lr=0.1, schedule="multistep")
    assert [learning_rate(paper, epoch, 0, 391, 200) for epoch in (99, 100, 149, 150)] == pytest.approx(
        [0.1, 0.01, 0.01, 0.001]
    )


def test_one_cycle_rises_and_falls_per_step() -> None:
    cycle = {"schedule": "onecycle", "warmup": 0.25}
    assert rate(0, 0, **cycle) == 0.0
    assert rate(2, 0, **cycle) == pytest.approx(0.4 * 0.1 / 0.25)
    assert rate(5, 0, **cycle) == pytest.approx(0.4)
    assert rate(12, 0, **cycle) == pytest.approx(0.4 * 0.4 / 0.75)
    assert rate(19, 4, **cycle) == pytest.approx(0.4 * 0.01 / 0.75)
    assert rate(6, 0, schedule="onecycle") == pytest.approx(0.4)  # default: rises over 0.3


@pytest.mark.parametrize("schedule", ["constant", "cosine", "multistep"])
def test_warmup_rises_linearly_to_the_peak(schedule: str) -> None:
    warm = {"schedule": schedule, "warmup": 0.045}  # 4.5 of 100 steps
    rates = [rate(epoch, step, **warm) for epoch in range(2) for step in range(STEPS)]
    assert rates[:5] == pytest.approx([0.4 * (n + 1) / 4.5 for n in range(4)] + [0.4])
    assert max(rates) == pytest.approx(0.4)
    assert rates[5] == rate(1, 0, schedule=schedule)


def test_exempt_parameters_do_not_decay(tiny: Any) -> None:
    model = build_model(tiny("float"))
    optimiser = make_optimiser(model, OptimConfig())
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = {group["weight_decay"]: [names[id(p)] for p in group["params"]] for group in optimiser.param_groups}
    assert set(groups) == {5e-4, 0.0}
    assert groups[0.0]
    assert all(name.endswith("alpha") for name in groups[0.0])
    assert not any(name.endswith("alpha") for name in groups[5e-4])
    assert sorted(groups[0.0] + groups[5e-4]) == sorted(names.values())


def test_without_exemptions_there_is_one_group(tiny: Any) -> None:
    optimiser = make_optimiser(build_model(tiny("float")), OptimConfig(no_decay=()))
    assert [group["weight_decay"] for group in optimiser.param_groups] == [5e-4]
    assert len(make_optimiser(build_model(tiny("pgd_at")), OptimConfig()).param_groups) == 1


def test_update_is_sgd_by_hand_in_every_group(tiny: Any) -> None:
    model = build_model(tiny("float"))
    optimiser = make_optimiser(model, OptimConfig(momentum=0.9, weight_decay=0.01))
    set_learning_rate(optimiser, 0.5)
    assert {group["lr"] for group in optimiser.param_groups} == {0.5}
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    for name, parameter in model.named_parameters():
        decay = 0.0 if name.endswith("alpha") else 0.01
        assert torch.allclose(parameter, start[name] - 0.5 * (1 + decay * start[name])), name
