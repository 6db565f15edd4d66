"""A run that was interrupted is the run that was not, bit for bit, on one process and on two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distcond.condition import AtLambda
from distcond.config.schema import Config
from distcond.data.loader import Loader
from distcond.engine import checkpoint, epoch, fit, keep
from distcond.engine.job import Job, Position, make_job
from distcond.engine.progress import read_progress
from distcond.engine.restore import load
from distcond.engine.run_dir import RunDir
from distcond.engine.world import World
from distcond.errors import ConfigError
from distcond.results import history
from distcond.results.store import read_rows


class Killed(Exception):
    """Stands for the end of a process."""


def run(config: Config, path: Path, world: World | None = None, stop_after: int | None = None) -> None:
    """Fit to the end, or until the process is killed in the epoch after `stop_after`."""
    original = fit.train_epoch

    def killed(job: Job, progress: Any) -> Any:
        if job.position.done == stop_after:
            raise Killed
        return original(job, progress)

    fit.train_epoch = killed
    try:
        fit.fit(config, world or World(), path)
    except Killed:
        assert stop_after is not None
    finally:
        fit.train_epoch = original


def whole(config: Config, path: Path) -> Path:
    with RunDir(path).begin(config):
        run(config, path)
    return path


def in_parts(config: Config, path: Path, *stops: int) -> Path:
    for stop in (*stops, None):
        with RunDir(path).begin(config):
            run(config, path, stop_after=stop)
    return path


def same(one: Any, other: Any) -> bool:
    """Equality bit for bit of nested states."""
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[name]) for name, value in one.items())
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def assert_same_run(one: Path, other: Path, ranks: int = 1) -> None:
    last = [checkpoint.newest(RunDir(path).checkpoints) for path in (one, other)]
    assert last[0] is not None
    assert last[1] is not None
    assert last[0].name == last[1].name
    assert same(checkpoint.load_shared(last[0]), checkpoint.load_shared(last[1]))
    for rank in range(ranks):
        assert same(checkpoint.load_statistics(last[0], rank), checkpoint.load_statistics(last[1], rank))
    assert len(list(last[0].glob("rank-*.pt"))) == ranks
    assert told(one) == told(other)
    assert counts(one) == counts(other)


def told(path: Path) -> list[dict[str, Any]]:
    """The history, without what a clock says."""
    timed = ("seconds", "images_per_second")
    return [{name: value for name, value in record.items() if name not in timed} for record in history.read(path)]


def counts(path: Path) -> list[tuple[Any, ...]]:
    return [
        (row.split, row.checkpoint, row.epoch, row.lam, row.attack, row.num_correct, row.num_examples)
        for row in read_rows(path)
    ]


@pytest.mark.parametrize("method", ["float", "pgd_at", "flying_bird", "smart"])
def test_a_resumed_run_is_the_uninterrupted_one(small: Any, tmp_path: Path, method: str) -> None:
    config = small(method)
    assert_same_run(whole(config, tmp_path / "a"), in_parts(config, tmp_path / "b", 1, 3))


def test_epochs_after_the_last_save_are_done_again(small: Any, tmp_path: Path) -> None:
    # Validated at the end only: no best checkpoint is saved between.
    config = small("float", save_every=2, eval__every=0)
    one, other = whole(config, tmp_path / "a"), tmp_path / "b"
    with RunDir(other).begin(config):
        run(config, other, stop_after=3)
    assert checkpoint.newest(RunDir(other).checkpoints) == RunDir(other).checkpoints / "epoch-0002"
    assert [record["epoch"] for record in history.read(other)] == [1, 2, 3]
    assert_same_run(one, in_parts(config, other))
    assert [record["epoch"] for record in history.read(other)] == [1, 2, 3, 4]


def test_a_finished_run_started_again_trains_no_more(small: Any, tmp_path: Path) -> None:
    config = small("float", epochs=2)
    path = whole(config, tmp_path / "a")
    with RunDir(path).begin(config) as attempt:
        run(config, path, stop_after=2)
    assert attempt == 1
    assert_same_run(path, whole(config, tmp_path / "b"))


def on_rank(rank: int, world: int, config: Config, path: Path, stop_after: int | None) -> None:
    run(config, path, World(rank, world), stop_after)


def test_a_resumed_run_of_two_processes_is_the_uninterrupted_one(small: Any, tmp_path: Path, run_ranks: Any) -> None:
    config = small("float", epochs=3)
    for name, stops in (("a", (None,)), ("b", (1, None))):
        for stop in stops:
            with RunDir(tmp_path / name).begin(config):
                run_ranks(on_rank, 2, config, tmp_path / name, stop)
    assert_same_run(tmp_path / "a", tmp_path / "b", ranks=2)
    last = checkpoint.newest(RunDir(tmp_path / "a").checkpoints)
    assert last is not None
    parts = [checkpoint.load_statistics(last, rank) for rank in (0, 1)]
    assert not same(*parts), "statistics are each rank's own"


def test_two_processes_sharing_statistics_train_as_one(small: Any, tmp_path: Path, run_ranks: Any) -> None:
    config = small("float", epochs=2, shared_statistics=True, optim__lr=0.01)
    with RunDir(tmp_path / "a").begin(config):
        run_ranks(on_rank, 2, config, tmp_path / "a", None)
    whole(config, tmp_path / "b")
    one, other = (load(tmp_path / name, "last").state_dict() for name in "ab")
    for name, tensor in one.items():
        assert torch.allclose(tensor.double(), other[name].double(), atol=2e-4), name


def evaluated_on_rank(rank: int, world: int, config: Config, path: Path) -> dict[str, Tensor]:
    """The network that a run of several ranks evaluates after resuming its last checkpoint."""
    job = make_job(config, World(rank, world), RunDir(path), 0)
    keep.resume(job)
    return job.evaluated_model().state_dict()


def test_what_is_evaluated_is_what_load_gives_the_mean_of_the_ranks_statistics(
    small: Any, tmp_path: Path, run_ranks: Any
) -> None:
    config = small("float", epochs=1)
    with RunDir(tmp_path / "a").begin(config):
        run_ranks(on_rank, 2, config, tmp_path / "a", None)
        evaluated = run_ranks(evaluated_on_rank, 2, config, tmp_path / "a")
    loaded = load(tmp_path / "a", "last")
    last = checkpoint.newest(RunDir(tmp_path / "a").checkpoints)
    assert last is not None
    parts = [checkpoint.load_statistics(last, rank) for rank in (0, 1)]
    for name, tensor in loaded.state_dict().items():
        assert all(torch.equal(found[name], tensor) for found in evaluated), name
        if name.endswith(("running_mean", "running_var")):
            assert torch.allclose(tensor, (parts[0][name] + parts[1][name]) / 2)
    assert not loaded.training


def test_fewer_ranks_go_on_from_more_and_say_so(
    small: Any, tmp_path: Path, run_ranks: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    config = small("float", epochs=2)
    with RunDir(tmp_path / "a").begin(config):
        run_ranks(on_rank, 2, config, tmp_path / "a", 1)
    with RunDir(tmp_path / "a").begin(config):
        run(config, tmp_path / "a")
    assert "resuming with 1 workers a run saved by 2" in capfd.readouterr().err
    assert RunDir(tmp_path / "a").finished


def test_a_finished_run_leaves_its_records(small: Any, tmp_path: Path) -> None:
    config = small("float", epochs=2)
    path = whole(config, tmp_path / "a")
    assert RunDir(path).finished
    said = read_progress(path)
    assert said is not None
    assert (said["stage"], said["epoch"], said["epochs"], said["steps"]) == ("finished", 2, 2, 3)
    records = history.read(path)
    assert [(record["epoch"], record["step"]) for record in records] == [(1, 3), (2, 6)]
    assert all(0 <= record["train_sa"] <= 1 and 0 <= record["train_ra"] <= 1 for record in records)
    assert [sorted(point["lam"] for point in record["val"]) for record in records] == [[0.0, 1.0]] * 2
    rows = [row for row in read_rows(path) if row.split == "test"]
    assert {(row.checkpoint, row.lam, row.attack) for row in rows} == {
        (which, lam, attack) for which in ("best", "last") for lam in (0.0, 1.0) for attack in ("none", "pgd")
    }
    assert {row.num_examples for row in rows} == {61}
    network = AtLambda(load(path), 0.3)
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 10)


def test_the_best_checkpoint_is_that_of_the_highest_score_and_is_kept(small: Any, tmp_path: Path) -> None:
    config = small("standard", epochs=4, train_examples=400, data__augment=False)
    path = whole(config, tmp_path / "a")
    scores = {record["epoch"]: record["val_score"] for record in history.read(path)}
    best = max(scores, key=lambda done: (scores[done], -done))
    assert scores[best] > min(scores.values())
    kept = {entry.name for entry in RunDir(path).checkpoints.iterdir()}
    assert kept == {"epoch-0004", f"epoch-{best:04d}"}
    assert {row.epoch for row in read_rows(path) if row.checkpoint == "best"} == {best}
    expected = [(point["sa"] + point["ra"]) / 2 for point in history.read(path)[-1]["val"]]
    assert scores[4] == pytest.approx(sum(expected))


def test_training_learns(small: Any, tmp_path: Path) -> None:
    path = whole(small("standard", epochs=8, train_examples=500, data__augment=False), tmp_path / "a")
    losses = [record["train_loss"] for record in history.read(path)]
    assert losses[-1] < 0.6 * losses[0]


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved(small: Any, tmp_path: Path) -> None:
    config = small("standard", optim__lr=1e30)
    with pytest.raises(FloatingPointError, match=r"epoch \d: the loss is (nan|inf); try a lower optim.lr"):
        whole(config, tmp_path / "a")
    assert checkpoint.newest(RunDir(tmp_path / "a").checkpoints) is None
    assert not RunDir(tmp_path / "a").finished


def test_every_epoch_has_an_order_of_its_own_also_after_a_resume(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, original = [], Loader.epoch

    def watched(loader: Loader, number: int, start: int = 0) -> Any:
        read.append(number)
        return original(loader, number, start)

    monkeypatch.setattr(Loader, "epoch", watched)
    in_parts(small("robust_bird", method__search_epochs=2, epochs=2), tmp_path / "a", 1, 3)
    assert read == [0, 1, 2, 3]


def test_a_batch_larger_than_the_data_is_refused(small: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size=200: more than the 100 training images; valid: 1 to 100"):
        whole(small("float", batch_size=200), tmp_path / "a")


def test_a_checkpoint_of_another_network_is_refused(small: Any, tmp_path: Path) -> None:
    path = whole(small("float", epochs=1), tmp_path / "a")
    for other in (small("float", epochs=1, model__widths="4,6"), small("pgd_at", epochs=1)):
        with pytest.raises(ConfigError, match="epoch-0001"):
            fit.fit(other, World(), path)


def test_the_step_before_a_kill_between_writing_and_renaming_is_lost_and_nothing_else(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small("float", epochs=3)
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
    assert checkpoint.newest(folder) == folder / "epoch-0001"
    assert_same_run(whole(config, tmp_path / "a"), in_parts(config, tmp_path / "b"))
    assert not any(entry.name.startswith(".") for entry in folder.iterdir())


def test_randomness_of_a_step_is_a_function_of_its_place(small: Any, tmp_path: Path) -> None:
    job = make_job(small("oat", eval__lam_grid="0,1"), World(), RunDir(tmp_path), 0)
    one, again, other = epoch.draws(job, 0), epoch.draws(job, 0), epoch.draws(job, 1)
    assert torch.equal(one.lam, again.lam)
    assert not torch.equal(one.lam, other.lam)
    assert torch.equal(one.lam, one.lam.sort().values)
    job.position = Position(0, 1, 1)
    assert not torch.equal(epoch.draws(job, 0).lam, one.lam)
    elsewhere = make_job(small("oat", eval__lam_grid="0,1"), World(1, 1), RunDir(tmp_path), 0)
    assert torch.equal(epoch.draws(elsewhere, 0).lam, one.lam)
