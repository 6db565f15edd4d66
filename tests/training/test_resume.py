"""A run killed between epochs resumes bit for bit, on one process and on two."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.config.schema import Config
from distcond.data.loader import Loader
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.layers.encode import Codebook
from distcond.results import history
from distcond.runs import checkpoint
from distcond.runs.run_dir import RunDir
from distcond.training import checkpointing, fit
from distcond.training.build_trainer import build_trainer
from distcond.training.trainer import Trainer
from support.groups import quick


class Killed(Exception):
    """Simulates the end of a process."""


def run(
    config: Config, path: Path, world: World | None = None, stop_after: int | None = None, attempt: int = 0
) -> None:
    """Fit to the end, or until the process is killed in the epoch after `stop_after`."""
    original = fit.train_epoch

    def killed(trainer: Trainer, progress: Any) -> Any:
        if trainer.position.done == stop_after:
            raise Killed
        return original(trainer, progress)

    fit.train_epoch = killed
    try:
        fit.fit(config, world or World(), path, attempt)
    except Killed:
        assert stop_after is not None
    finally:
        fit.train_epoch = original


def in_parts(config: Config, path: Path, *stops: int) -> Path:
    for stop in (*stops, None):
        with RunDir(path).begin(config) as attempt:
            run(config, path, stop_after=stop, attempt=attempt)
    return path


def test_resumed_run_equals_the_uninterrupted_one(small: Any, tmp_path: Path, same_run: Any, whole: Any) -> None:
    # test_resume_within.py does this for every method.
    config = small("float", epochs=3, eval__select="each")
    same_run.assert_same_run(whole(config), in_parts(config, tmp_path / "b", 1, 2))


def test_accumulated_shares_resume_with_their_statistics(small: Any, tmp_path: Path, same_run: Any, whole: Any) -> None:
    config = small("float", epochs=2, optim__accumulate=2)
    same_run.assert_same_run(whole(config), in_parts(config, tmp_path / "b", 1))


@pytest.mark.parametrize("method", quick("oat", of=["oat", "oats"]))
def test_lam_codes_come_from_the_checkpoint(small: Any, whole: Any, method: str) -> None:
    config = small(method, epochs=1)
    run = RunDir(whole(config))
    saved = checkpoint.latest(run.checkpoints)
    assert saved is not None
    trainer = build_trainer(config, World(), run, 1)
    codes = trainer.model.encode
    assert isinstance(codes, Codebook)
    wanted = codes.table.clone()
    codes.table.zero_()
    checkpointing.resume_training(trainer)
    assert torch.equal(codes.table, wanted)
    assert torch.equal(checkpoint.load_shared(saved)["model"]["encode.table"], wanted)


@pytest.mark.parametrize("before", [None, "0" * 12])
def test_checkpoint_of_other_images_is_refused(small: Any, tmp_path: Path, whole: Any, before: str | None) -> None:
    shutil.copytree(whole(small(epochs=2)), tmp_path, dirs_exist_ok=True)
    saved = checkpoint.latest(RunDir(tmp_path).checkpoints)
    assert saved is not None
    state = torch.load(saved / "shared.pt", weights_only=True)
    state = {name: value for name, value in state.items() if name != "train_images"}
    torch.save(state | ({"train_images": before} if before else {}), saved / "shared.pt")
    trainer = build_trainer(small(epochs=3), World(), RunDir(tmp_path), 1)
    with pytest.raises(ConfigError, match="trained on other images"):
        checkpointing.resume_training(trainer)


def test_checkpoint_without_a_part_is_refused(small: Any, tmp_path: Path, whole: Any) -> None:
    config = small("standard", epochs=2)
    shutil.copytree(whole(config), tmp_path, dirs_exist_ok=True)
    shared = tmp_path / "checkpoints" / "epoch-0002" / "shared.pt"
    torch.save(torch.load(shared, weights_only=True) | {"world_size": 2}, shared)
    with pytest.raises(ConfigError, match=r"^\S+epoch-0002: incomplete, has 1 of 2"):
        fit.fit(config, World(), tmp_path)


def test_epochs_after_the_last_save_are_repeated(small: Any, tmp_path: Path, same_run: Any, whole: Any) -> None:
    # Validated at the end only: no best checkpoint is saved between.
    config = small("float", save_every=2, eval__every=0)
    one, other = whole(config), tmp_path / "b"
    with RunDir(other).begin(config):
        run(config, other, stop_after=3)
    assert checkpoint.latest(RunDir(other).checkpoints) == RunDir(other).checkpoints / "epoch-0002"
    assert [record["epoch"] for record in history.read(other)] == [1, 2, 3]
    same_run.assert_same_run(one, in_parts(config, other))
    assert [record["epoch"] for record in history.read(other)] == [1, 2, 3, 4]


def test_finished_run_does_not_train_again(small: Any, tmp_path: Path, same_run: Any, whole: Any) -> None:
    config = small("float", epochs=2)
    path = shutil.copytree(whole(config), tmp_path / "run")
    with RunDir(path).begin(config) as attempt:
        run(config, path, stop_after=2)
    assert attempt == 1
    same_run.assert_same_run(path, whole(config))


def on_rank(rank: int, world: int, config: Config, path: Path, stop_after: int | None) -> None:
    run(config, path, World(rank, world), stop_after)


def test_two_processes_resume_exactly(small: Any, tmp_path: Path, same_run: Any, run_ranks: Any) -> None:
    config = small("float", epochs=2)
    for name, stops in (("a", (None,)), ("b", (1, None))):
        for stop in stops:
            with RunDir(tmp_path / name).begin(config):
                run_ranks(on_rank, 2, config, tmp_path / name, stop)
    same_run.assert_same_run(tmp_path / "a", tmp_path / "b", ranks=2)
    last = checkpoint.latest(RunDir(tmp_path / "a").checkpoints)
    assert last is not None
    parts = [checkpoint.load_rank_state(last, rank)["statistics"] for rank in (0, 1)]
    assert not same_run.same(*parts), "statistics are each rank's own"


def test_fewer_ranks_resume_with_a_notice(
    small: Any, tmp_path: Path, run_ranks: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    config = small("float", epochs=2)
    with RunDir(tmp_path / "a").begin(config):
        run_ranks(on_rank, 2, config, tmp_path / "a", 1)
    with RunDir(tmp_path / "a").begin(config):
        run(config, tmp_path / "a")
    notice = capfd.readouterr().err
    assert "1 workers" in notice and "saved by 2" in notice
    assert history.world_sizes(tmp_path / "a") == (1, 2)
    assert RunDir(tmp_path / "a").finished


def test_every_epoch_has_its_own_order(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, original = [], Loader.epoch

    def watched(loader: Loader, number: int, start: int = 0) -> Any:
        read.append(number)
        return original(loader, number, start)

    monkeypatch.setattr(Loader, "epoch", watched)
    in_parts(small("robust_bird", method__search_epochs=2, epochs=2), tmp_path / "a", 1, 3)
    assert read == [0, 1, 2, 3]


def test_kill_before_rename_loses_one_checkpoint(
    small: Any, tmp_path: Path, same_run: Any, whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("float", epochs=2)
    renamed = checkpoint.os.rename

    def killed(source: Path, target: Path) -> None:
        if target.name == "epoch-0002":
            raise Killed
        renamed(source, target)

    with monkeypatch.context() as patch, RunDir(tmp_path / "b").begin(config):
        patch.setattr(checkpoint.os, "rename", killed)
        with pytest.raises(Killed):
            fit.fit(config, World(), tmp_path / "b")
    folder = RunDir(tmp_path / "b").checkpoints
    assert {entry.name for entry in folder.iterdir()} == {"epoch-0001", ".epoch-0002"}
    assert checkpoint.latest(folder) == folder / "epoch-0001"
    same_run.assert_same_run(whole(config), in_parts(config, tmp_path / "b"))
    assert not any(entry.name.startswith(".") for entry in folder.iterdir())
