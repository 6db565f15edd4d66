"""Weight averaging: the recursion, masks, resuming bit for bit, and that training does not use the average."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distcond.config.schema import Config
from distcond.distributed.running_statistics import overlay_average
from distcond.distributed.world import World
from distcond.evaluation.make_plan import sweep_plan
from distcond.evaluation.sweep import sweep
from distcond.results.store import read_rows
from distcond.runs import checkpoint
from distcond.runs.load_run import load
from distcond.runs.run_dir import RunDir
from distcond.training import epoch, fit
from distcond.training.averaging import WeightAverage
from distcond.training.build_trainer import build_trainer
from support.groups import quick


class Killed(Exception):
    """Simulates the end of a process."""


def run(config: Config, path: Path, stop_after: int | None = None) -> Path:
    """Fit to the end, or until the process is killed in the epoch after `stop_after`."""
    original = epoch.train_epoch

    def killed(trainer: Any, progress: Any) -> Any:
        if trainer.position.done == stop_after:
            raise Killed
        return original(trainer, progress)

    with RunDir(path).begin(config) as attempt, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "train_epoch", killed)
        try:
            fit.fit(config, World(), path, attempt)
        except Killed:
            assert stop_after is not None
    return path


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_average_follows_weights_and_running_statistics() -> None:
    model = network()
    averaged, wanted = WeightAverage(model, decay=0.5), {n: t.detach().clone() for n, t in model.state_dict().items()}
    for number in range(12):
        model(torch.randn(8, 3, 5, 5))  # updates the running statistics
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        averaged.update()
        decay = min(0.5, (1 + number) / (10 + number))
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                wanted[name] = decay * wanted[name] + (1 - decay) * tensor
    other = copy.deepcopy(model)
    averaged.copy_to(other)
    found = other.state_dict()
    assert all(torch.allclose(found[n], t, atol=1e-6) for n, t in wanted.items() if t.is_floating_point())
    assert not torch.allclose(found["0.weight"], model.state_dict()["0.weight"], atol=0.1)


def test_masked_weights_stay_zero() -> None:
    model = network()
    averaged, mask = WeightAverage(model, decay=0.9), torch.rand(4, 3, 3, 3) < 0.5
    with torch.no_grad():
        model[0].weight.mul_(mask)  # type: ignore[operator]
    averaged.copy_to(model)
    assert torch.equal(model[0].weight != 0, mask)


def test_averaging_leaves_training_and_raw_rows_unchanged(small: Any, whole: Any) -> None:
    plain, with_average = (whole(small("float", epochs=2, **own)) for own in ({}, {"optim__averaging": 0.8}))
    states = [checkpoint.load_shared(RunDir(path).checkpoints / "epoch-0002") for path in (plain, with_average)]
    assert all(torch.equal(tensor, states[1]["model"][name]) for name, tensor in states[0]["model"].items())
    assert counts(plain, "last") == counts(with_average, "last_raw")
    assert counts(plain, "last_raw") == []
    assert all(torch.equal(tensor, states[0]["model"][n]) for n, tensor in weights(load(with_average, "last_raw")))
    assert any(not torch.equal(tensor, states[0]["model"][n]) for n, tensor in weights(load(with_average, "last")))


def weights(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [(name, tensor.detach()) for name, tensor in model.named_parameters()]


def counts(path: Path, which: str) -> list[tuple[float, str, int]]:
    rows = [row for row in read_rows(path) if (row.split, row.checkpoint) == ("test", which)]
    return [(row.lam, row.attack, row.num_correct) for row in rows]


def test_last_rows_use_the_average(small: Any, whole: Any) -> None:
    config = small("float", epochs=2, optim__averaging=0.8)
    path = whole(config)
    test = build_trainer(config, World(), RunDir(path), 0).sources["test"]
    model = load(path, "last")
    plan = sweep_plan(config, model, test, budget=config.eval.test_examples)
    found = list(sweep(plan, model, test, World()))
    expected = [pair for c in found for pair in ((c.lam, "none", c.sa_correct), (c.lam, "pgd", c.ra_correct))]
    assert counts(path, "last") == expected


@pytest.mark.parametrize("method", quick("robust_bird", of=["oats", "robust_bird"]))
def test_a_resumed_average_is_the_uninterrupted_one(small: Any, tmp_path: Path, whole: Any, method: str) -> None:
    own = {"method__search_epochs": 2, "method__queue_length": 2} if method == "robust_bird" else {}
    config = small(method, epochs=2, optim__averaging=0.9, **own)
    one = whole(config)
    for stop in (1, 3, None) if own else (1, None):
        run(config, tmp_path / "b", stop)
    ends = [newest(path) for path in (one, tmp_path / "b")]
    assert ends[0].name == ends[1].name
    states = [checkpoint.load_shared(end)["averaged"] for end in ends]
    assert states[0]["updates"] == states[1]["updates"] > 0
    assert all(torch.equal(tensor, states[1]["parameters"][n]) for n, tensor in states[0]["parameters"].items())
    own_statistics = [checkpoint.load_rank_state(end, 0)["averaged"] for end in ends]
    assert own_statistics[0].keys() == own_statistics[1].keys() != set()
    assert all(torch.equal(tensor, own_statistics[1][name]) for name, tensor in own_statistics[0].items())
    assert counts(one, "best") == counts(tmp_path / "b", "best")


def newest(path: Path) -> Path:
    found = checkpoint.latest(RunDir(path).checkpoints)
    assert found is not None
    return found


def test_average_of_another_network_is_refused() -> None:
    with pytest.raises(KeyError):
        overlay_average(network(), {})
