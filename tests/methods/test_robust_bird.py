"""Robust Bird: standard training until a ticket is found, then adversarial training of the ticket."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.methods import pgd_at, standard
from distcond.methods.robust_bird import METHOD, stages
from distcond.runs.build import build_model
from distcond.runs.load_run import load
from distcond.runs.run_dir import RunDir
from distcond.training.fit import fit


@pytest.fixture
def config(tiny: Any) -> Any:
    def made(**settings: Any) -> Config:
        fast = {
            "attack__num_steps": 1,
            "precision__train": "float32",
            "train_examples": 128,
            "eval__val_examples": 20,
            "eval__val_steps": 1,
            "eval__test_examples": 20,
            "eval__attack__num_steps": 1,
            "epochs": 2,
            "method__search_epochs": 4,
            "method__queue_length": 2,
        }
        found: Config = tiny("robust_bird", **fast | settings)
        return found

    return made


def run(config: Config, path: Path) -> list[dict[str, Any]]:
    with RunDir(path).begin(config):
        fit(config, World(), path)
    return [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]


def test_the_stages_and_their_schedules(tiny: Any) -> None:
    search, train = stages(tiny("robust_bird", optim__schedule="onecycle", epochs=200))
    assert (search.name, search.epochs, search.objective) == ("search", 60, standard.objective)
    assert (search.optim.schedule, search.optim.milestones) == ("multistep", (5 / 6,))
    assert (train.name, train.epochs, train.objective) == ("train", 200, pgd_at.objective)
    assert train.optim.schedule == "onecycle"


def test_a_run_finds_and_trains_the_ticket(config: Any, tmp_path: Path) -> None:
    history = run(config(method__tolerance=1), tmp_path)
    assert [record["stage"] for record in history] == ["search", "search", "train", "train"]
    assert [record["sparsity"]["density"] for record in history] == pytest.approx([1, 1, 0.2, 0.2], abs=1e-3)
    assert [record["sparsity"]["found"] for record in history] == [0, 1, 1, 1]
    assert history[1]["sparsity"]["distance_0"] < 0.4
    assert [record["train_ra"] is None for record in history] == [True, True, False, False]
    model = load(tmp_path, "last")
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    total = sum(layer.weight.numel() for layer in layers)
    assert sum(int((layer.weight != 0).sum()) for layer in layers) == int(0.2 * total + 0.5)


def test_searches_end_at_the_maximum_epochs(config: Any, tmp_path: Path) -> None:
    history = run(config(method__tolerance=0, epochs=1), tmp_path)
    assert [record["stage"] for record in history] == ["search"] * 4 + ["train"]
    assert [record["sparsity"]["found"] for record in history] == [0] * 5
    assert history[-1]["sparsity"]["density"] == pytest.approx(0.2, abs=1e-3)


def test_search_masks_convolutions_and_tickets_the_classifier_too(config: Any) -> None:
    chosen = config()
    ticket = METHOD.sparsity(chosen, build_model(chosen))
    names = set(ticket.masked.weights) - set(ticket.searched)
    assert names == {"backbone.linear.weight"}


def test_a_dense_ticket_is_refused(config: Any) -> None:
    chosen = config(method__density=1)
    with pytest.raises(ConfigError, match=r"method.density=1: "):
        METHOD.sparsity(chosen, build_model(chosen))


def test_weights_keep_their_values(config: Any) -> None:
    chosen = config()
    model = build_model(chosen)
    ticket = METHOD.sparsity(chosen, model)
    before = {name: weight.detach().clone() for name, weight in ticket.masked.weights.items()}
    ticket.start("search")
    assert all(torch.equal(weight, before[name]) for name, weight in ticket.masked.weights.items())
    ticket.start("train")
    for name, weight in ticket.masked.weights.items():
        assert torch.equal(weight, before[name] * ticket.masked.masks[name])
