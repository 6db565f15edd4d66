"""A run killed or stopped at any step of an epoch resumes bit for bit."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.results import history
from distcond.runs import checkpoint, load_run
from distcond.runs.load_run import load
from distcond.runs.run_dir import RunDir
from distcond.training import checkpointing, epoch, fit
from distcond.training.trainer import Trainer
from support.groups import quick, trained

STEPS = 3  # per epoch, in all of these runs


class Killed(Exception):
    """Simulates the end of a process."""


def run(
    config: Config, path: Path, world: World | None = None, kill_after: int | None = None, attempt: int = 0
) -> None:
    """Fit to the end, or until the process is killed before update number `kill_after` + 1 of the run."""
    original = epoch.train_step

    def killed(trainer: Trainer, step: int, *rest: Any) -> Any:
        if trainer.position.done * STEPS + step == kill_after:
            raise Killed
        return original(trainer, step, *rest)

    epoch.train_step = killed
    try:
        fit.fit(config, world or World(), path, attempt)
    except Killed:
        assert kill_after is not None
    finally:
        epoch.train_step = original


def in_parts(config: Config, path: Path, *kills: int) -> Path:
    for kill in (*kills, None):
        with RunDir(path).begin(config) as attempt:
            run(config, path, kill_after=kill, attempt=attempt)
    return path


METHODS = {
    "float": {"optim__averaging": 0.9},
    "float_slim": {},
    "floats": {"method__density": 0.5},
    "flying_bird": {"method__update_every": 2},
    "flying_bird_plus": {"method__update_every": 2, "method__adapt_from": 0.0, "method__window": 1},
    "oat": {},
    "oats": {},
    "pgd_at": {"optim__awp_gamma": 0.01, "data__cutmix": 1.0},
    "robust_bird": {"method__search_epochs": 2, "epochs": 2},
    "smart": {},
    "standard": {"label_smoothing": 0.1},
    "trades": {},
}


@pytest.mark.parametrize("method", quick("float", "flying_bird_plus", "robust_bird", "oat", "pgd_at", of=METHODS))
def test_run_killed_in_an_epoch_resumes_exactly(
    small: Any, tmp_path: Path, same_run: Any, whole: Any, method: str
) -> None:
    config = small(method, **{"epochs": 2, "save_steps": 2, **METHODS[method]})
    same_run.assert_same_run(whole(config), in_parts(config, tmp_path / "b", 3, 5))


def test_every_method_is_tested() -> None:
    assert set(METHODS) == set(trained())


@pytest.mark.parametrize("loader", quick("ffcv", of=["memory", "ffcv"]))
def test_kill_at_every_step_loses_nothing(small: Any, tmp_path: Path, same_run: Any, whole: Any, loader: str) -> None:
    if loader == "ffcv" and importlib.util.find_spec("ffcv") is None:
        pytest.skip("ffcv is not installed")
    config = small("float", epochs=2, save_steps=1, data__loader=loader)
    same_run.assert_same_run(whole(config), in_parts(config, tmp_path / "b", *range(1, 2 * STEPS)))


def on_rank(rank: int, world: int, config: Config, path: Path, kill_after: int | None) -> None:
    run(config, path, World(rank, world), kill_after)


@pytest.mark.parametrize(("method", "ranks"), [("smart", 2), pytest.param("float", 3, marks=pytest.mark.cluster)])
def test_several_ranks_resume_within_an_epoch(
    small: Any, tmp_path: Path, same_run: Any, run_ranks: Any, method: str, ranks: int
) -> None:
    config = small(method, epochs=2, save_steps=1)
    for name, kills in (("a", (None,)), ("b", (2, 4, None))):
        for kill in kills:
            with RunDir(tmp_path / name).begin(config):
                run_ranks(on_rank, ranks, config, tmp_path / name, kill)
    same_run.assert_same_run(tmp_path / "a", tmp_path / "b", ranks=ranks)


@pytest.mark.parametrize(
    ("before", "after"), [(2, 1), *(pytest.param(*ranks, marks=pytest.mark.cluster) for ranks in ((1, 2), (2, 3)))]
)
def test_another_world_size_resumes_with_the_same_sums(
    small: Any, tmp_path: Path, run_ranks: Any, whole: Any, before: int, after: int
) -> None:
    config = small("smart", epochs=1, save_steps=1, eval__every=0)
    for ranks, kill in ((before, 2), (after, None)):
        with RunDir(tmp_path / "b").begin(config):
            run_ranks(on_rank, ranks, config, tmp_path / "b", kill)
    (record,) = history.read(tmp_path / "b")
    (alone,) = history.read(whole(config))
    # BN statistics are per rank, so the weights differ. Counts are over the same rows.
    assert record["train_loss"] == pytest.approx(alone["train_loss"], rel=0.05)
    assert record["train_flops"] == pytest.approx(alone["train_flops"], rel=1e-6)


def stopping(config: Config, path: Path, stop: Callable[[], bool]) -> bool:
    with RunDir(path).begin(config) as attempt:
        return fit.fit(config, World(), path, attempt, stop)


def after(calls: int) -> Callable[[], bool]:
    """A stop function that returns True after `calls` calls."""
    count = itertools.count(1)
    return lambda: next(count) >= calls


@pytest.mark.parametrize(
    ("calls", "place"),
    [
        (1, "epoch-0000-step-000001"),
        pytest.param(3, "epoch-0000-step-000003", marks=pytest.mark.cluster),  # the last step, before validation
        pytest.param(4, "epoch-0000-step-000003", marks=pytest.mark.cluster),  # before its validation
        (5, "epoch-0000-step-000003"),  # between its operating points
        pytest.param(6, "epoch-0001-step-000001", marks=pytest.mark.cluster),
        (11, "epoch-0002"),  # in the test
    ],
)
def test_stopped_run_saves_and_resumes(
    small: Any, tmp_path: Path, same_run: Any, whole: Any, monkeypatch: pytest.MonkeyPatch, calls: int, place: str
) -> None:
    monkeypatch.setattr("distcond.training.checkpointing.INTERVAL", 0.0)  # agree after every step
    config = small("float", epochs=2)
    assert not stopping(config, tmp_path / "b", after(calls))
    last = checkpoint.latest(RunDir(tmp_path / "b").checkpoints)
    assert last is not None
    assert last.name == place
    assert not RunDir(tmp_path / "b").finished
    same_run.assert_same_run(whole(config), in_parts(config, tmp_path / "b"))


def test_saving_by_time_changes_nothing(
    small: Any, tmp_path: Path, same_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distcond.training.checkpointing.INTERVAL", 0.0)
    saved, original = [], checkpointing.save_training

    def save(trainer: Trainer) -> None:
        saved.append((trainer.position.done, trainer.position.step))
        original(trainer)

    monkeypatch.setattr(epoch, "save_training", save)
    rare = in_parts(small("smart", epochs=2, save_minutes=0.0), tmp_path / "a")
    assert saved == []
    same_run.assert_same_run(rare, in_parts(small("smart", epochs=2, save_minutes=1e-9), tmp_path / "b"))
    assert saved == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]  # and before each validation


def test_best_and_latest_checkpoint_are_kept(small: Any, tmp_path: Path) -> None:
    config = small("float", epochs=3, save_steps=1)
    with RunDir(tmp_path).begin(config):
        run(config, tmp_path, kill_after=2 * STEPS + 2)
    last = checkpoint.latest(RunDir(tmp_path).checkpoints)
    assert last is not None
    best = checkpoint.load_shared(last)["best"][0]
    assert {entry.name for entry in last.parent.iterdir()} == {f"epoch-{best:04d}", "epoch-0002-step-000002"}
    assert isinstance(load(tmp_path, "last"), torch.nn.Module)


def test_non_finite_loss_keeps_the_checkpoint(small: Any, tmp_path: Path) -> None:
    config = small("float", epochs=2, save_steps=1, optim__lr=1e30)
    with RunDir(tmp_path).begin(config), pytest.raises(FloatingPointError, match="epoch 1: the loss is"):
        run(config, tmp_path)
    last = checkpoint.latest(RunDir(tmp_path).checkpoints)
    assert last is None or all(t.isfinite().all() for t in checkpoint.load_shared(last)["model"].values())


def test_network_is_read_from_a_running_run(small: Any, whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = whole(small("float", epochs=2))
    gone = [path / "checkpoints" / "epoch-0000-step-000001"]
    original = load_run.find_checkpoint
    monkeypatch.setattr(load_run, "find_checkpoint", lambda *words: gone.pop() if gone else original(*words))
    assert isinstance(load(path, "last"), torch.nn.Module)
    assert not gone
