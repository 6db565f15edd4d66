"""One amplitude for all layers: what it counts, that it stays one, and that its checkpoint gives the same network."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.config.run_id import run_id
from distcond.distributed.world import World
from distcond.layers.noisy import NoisyConv2d
from distcond.models.conditional import ConditionalModel
from distcond.runs.build import build_model
from distcond.runs.load_run import load
from distcond.runs.run_dir import RunDir
from distcond.training.averaging import WeightAverage
from distcond.training.fit import fit
from distcond.training.optimiser import make_optimiser

METHODS = ["float", "floats", "float_slim"]


def noisy_layers(model: ConditionalModel) -> list[NoisyConv2d]:
    return [module for module in model.modules() if isinstance(module, NoisyConv2d)]


@pytest.mark.parametrize("method", METHODS)
def test_one_parameter_per_network_changes_no_other_start(tiny: Any, method: str) -> None:
    own, one = build_model(tiny(method)), build_model(tiny(method, method__shared_alpha=True))
    layers = len(noisy_layers(own))
    count, fewer = (sum(part.numel() for part in model.parameters()) for model in (own, one))
    assert layers > 1 and count - fewer == layers - 1
    assert len({id(layer.alpha) for layer in noisy_layers(one)}) == 1
    assert noisy_layers(one)[0].alpha.item() == 0.25
    assert one.state_dict().keys() == own.state_dict().keys()
    assert all(torch.equal(one.state_dict()[name], tensor) for name, tensor in own.state_dict().items())
    another = build_model(tiny(method, method__shared_alpha=True))
    assert another.backbone is not one.backbone and noisy_layers(another)[0].alpha is not noisy_layers(one)[0].alpha


def test_copies_averages_and_optimisers_see_one_parameter(tiny: Any) -> None:
    config = tiny("float", method__shared_alpha=True)
    model = build_model(config)
    assert len({id(layer.alpha) for layer in noisy_layers(copy.deepcopy(model))}) == 1
    exempt = make_optimiser(model, config.optim).param_groups[1]["params"]
    assert [id(part) for part in exempt] == [id(noisy_layers(model)[0].alpha)]
    averaged, target = WeightAverage(model, 0.5), build_model(config)
    with torch.no_grad():
        noisy_layers(model)[-1].alpha.fill_(0.75)
    averaged.update()
    averaged.copy_to(target)
    assert [layer.alpha.item() for layer in noisy_layers(target)] == pytest.approx([0.25 * 0.1 + 0.75 * 0.9] * 4)


def test_runs_learn_it_and_checkpoints_restore_it(tiny: Any, tmp_path: Path) -> None:
    settings = {"epochs": 2, "train_examples": 64, "batch_size": 32, "attack__num_steps": 1, "data__loader": "memory"}
    small = {"eval__val_examples": 16, "eval__test_examples": 16, "eval__attack__num_steps": 1, "eval__sentinel": "off"}
    config = tiny("float", method__shared_alpha=True, data__cache_dir=str(tmp_path / "cache"), **settings, **small)
    run = RunDir(tmp_path / "run")
    with run.begin(config) as attempt:
        fit(config, World(0, 1, torch.device("cpu")), run.path, attempt)
    network = load(run.path, "last")
    learned = {layer.alpha.item() for layer in noisy_layers(network)}
    kept = torch.load(run.checkpoints / "epoch-0002" / "shared.pt", weights_only=True)["model"]
    assert learned == {value.item() for name, value in kept.items() if name.endswith("alpha")} != {0.25}
    assert len(learned) == 1


def test_runs_without_it_keep_their_run_id(tiny: Any) -> None:
    names = [run_id(tiny("float", **settings), "0") for settings in ({}, {"method__shared_alpha": False})]
    names.append(run_id(tiny("float", method__scale="ranges"), "0"))
    assert set(names) == {names[0]}
    assert run_id(tiny("float", method__shared_alpha=True), "0") not in names
    assert run_id(tiny("float", method__scale="linear"), "0") not in names
