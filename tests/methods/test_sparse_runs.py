"""Sparse methods in complete runs: counted cost, resuming at any epoch, equal masks on all ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from distcond.config.overrides import resolve
from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.methods.step_context import StepRandomness
from distcond.registry import lookup
from distcond.runs.build import build_model, build_step
from distcond.runs.checkpoint import Position, latest, load_shared
from distcond.runs.run_dir import RunDir
from distcond.sparsity.masks import mask_digest
from distcond.training.build_trainer import build_trainer, stages_of
from distcond.training.epoch import train_epoch
from distcond.training.fit import begin_stage, finish_epoch, fit
from distcond.training.progress import ProgressWriter
from distcond.training.trainer import Trainer
from support.groups import quick

METHODS = ("floats", "smart", "robust_bird", "flying_bird", "flying_bird_plus")
K, N = 3, 4


@pytest.fixture
def config(tiny: Any) -> Callable[..., Config]:
    def made(method: str, **settings: Any) -> Config:
        fast = {
            "attack__num_steps": 1,
            "precision__train": "float32",
            "batch_size": 32,
            "train_examples": 96,
            "eval__every": 1,
            "eval__lam_grid": "0,1",
            "eval__val_examples": 20,
            "eval__val_steps": 1,
            "eval__test_examples": 20,
            "eval__attack__num_steps": 1,
            "epochs": 4,
        }
        birds = {"method__update_every": 2, "method__window": 1, "method__search_epochs": 3, "method__queue_length": 2}
        options = lookup("method", method).options
        own = {name: value for name, value in birds.items() if hasattr(options, name.removeprefix("method__"))}
        found: Config = tiny(method, **fast | own | settings)
        return found

    return made


@pytest.mark.parametrize(
    ("method", "floor"),
    [
        ("floats", K + 3.0),
        ("smart", K + 3.0),
        ("robust_bird", 2 * K + 3.0),
        ("flying_bird", 2 * K + 3.0),
        ("flying_bird_plus", 2 * K + 3.0),
    ],
)
def test_a_step_costs_what_its_passes_cost(method: str, floor: float) -> None:
    settings = {"method": method, "model": "resnet20", "attack.num_steps": K, "eval.lam_grid": "0,1", "eval.every": 1}
    config = resolve("float_digits", settings)
    step = build_step(config, build_model(config), torch.device("cpu"))
    step.objective = stages_of(config, lookup("method", method))[-1].objective
    masks = lookup("method", method).sparsity(config, step.model)
    if masks is not None:
        masks.start("train")
    sampler = config.sampler
    lam = lookup("sampler", sampler.name).draw(sampler, N, torch.Generator()).sort().values
    x, y = torch.rand(N, 3, 16, 16), torch.arange(N)
    forward = flops(lambda: step.model.eval()(x, step.model.condition(1.0)))
    step.train()
    found = flops(lambda: step(x, y, StepRandomness(0, 0, 0, 0, 1, lam)).loss.backward())
    assert found / forward == pytest.approx(floor, rel=0.005)


def flops(run: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def started(config: Config, path: Path, world: World | None = None) -> Trainer:
    job = build_trainer(config, world or World(), RunDir(path), 0)
    begin_stage(job, Position())
    return job


# In tests/training/test_resume_within.py every method is killed in and between epochs; here, in and between stages.
def test_resuming_in_any_stage_ends_the_same(config: Any, tmp_path: Path) -> None:
    chosen = config("robust_bird", method__search_epochs=2, epochs=2)
    whole = finished(chosen, tmp_path / "whole", 0)
    for epochs in (1, 2, 3):
        resumed = finished(chosen, tmp_path / str(epochs), epochs)
        assert resumed.keys() == whole.keys()
        for name, wanted in whole.items():
            assert torch.equal(resumed[name], wanted), f"{name} after {epochs}"


def finished(config: Config, path: Path, interrupted: int) -> dict[str, Tensor]:
    """The weights and masks a run ends with; broken off after so many epochs and started again."""
    with RunDir(path).begin(config):
        if interrupted:
            job = started(config, path)
            progress = ProgressWriter(path, config.epochs, job.train.steps, config.batch_size, True)
            for _ in range(interrupted):
                finish_epoch(job, train_epoch(job, progress), progress)
        fit(config, World(), path)
    checkpoint = latest(path / "checkpoints")
    assert checkpoint is not None
    shared = load_shared(checkpoint)
    return shared["model"] | tensors(shared["sparsity"], "sparsity")


def tensors(state: Any, name: str) -> dict[str, Tensor]:
    """Every tensor and number of a nested state."""
    if isinstance(state, dict):
        return {key: value for part in state for key, value in tensors(state[part], f"{name}.{part}").items()}
    if isinstance(state, list | tuple):
        return tensors(dict(enumerate(state)), name)
    if isinstance(state, str) or state is None:
        return {}
    return {name: torch.as_tensor(state)}


def on_rank(rank: int, world: int, config: Config, path: str) -> list[dict[str, int]]:
    """Digests of a rank's masks after each epoch of a run on its share of the data."""
    job = started(config, Path(path), World(rank, world))
    progress, seen = ProgressWriter(Path(path), config.epochs, job.train.steps, config.batch_size, False), []
    assert job.sparsity is not None
    for _ in range(config.epochs):
        record = train_epoch(job, progress)
        record["val"] = [{"lam": 1.0, "sa": 0.5, "ra": 0.3 - 0.1 * len(seen), "ra_loss": 1.0 + len(seen)}]
        stage_over = job.sparsity.after_epoch(record, job.optimiser)
        if stage_over:
            begin_stage(job, Position(1, 0, job.position.done + 1))
        else:
            at = job.position
            job.position = Position(at.stage, at.epoch + 1, at.done + 1)
        state = job.sparsity.state_dict()
        masks = {name: tensor for name, tensor in tensors(state, "").items() if tensor.dtype == torch.bool}
        floats = {name: tensor for name, tensor in tensors(state, "").items() if tensor.is_floating_point()}
        sums = {name: int((tensor.double().sum() * 2**40).item()) for name, tensor in floats.items()}
        seen.append({"masks": mask_digest(masks), **sums})
    return seen


@pytest.mark.parametrize("method", quick("robust_bird", "flying_bird_plus", of=METHODS))
def test_ranks_with_different_data_carry_same_masks(config: Any, run_ranks: Any, method: str, tmp_path: Path) -> None:
    chosen = config(method)
    with RunDir(tmp_path).begin(chosen):
        first, second = run_ranks(on_rank, 2, chosen, str(tmp_path))
    assert first == second
    assert len({epoch["masks"] for epoch in first}) > 1
