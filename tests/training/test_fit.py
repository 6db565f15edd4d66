"""Complete runs: their records, the best checkpoint, refusals, and runs on several ranks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from distcond.atomic_io import read_json
from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.models.conditional import AtLambda
from distcond.results import history
from distcond.results.row import Row
from distcond.results.store import read_rows
from distcond.run_layout import FINISHED_FILE
from distcond.runs import checkpoint
from distcond.runs.checkpoint import Position, load_shared
from distcond.runs.load_run import load
from distcond.runs.run_dir import RunDir
from distcond.training import checkpointing, epoch, fit
from distcond.training.build_trainer import build_trainer
from distcond.training.progress import read_progress
from support.groups import quick


def run_fit(config: Config, path: Path) -> Path:
    with RunDir(path).begin(config):
        fit.fit(config, World(), path)
    return path


def test_finished_run_writes_its_records(small: Any, whole: Any) -> None:
    path = whole(small("float", epochs=2))
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
    assert {row.train_world_sizes for row in read_rows(path)} == {"1"}
    assert [record["world_sizes"] for record in records] == [[1], [1]]
    network = AtLambda(load(path), 0.3)
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 10)


LEARNS = {"epochs": 6, "train_examples": 400, "data__augment": False}


def test_best_checkpoint_has_the_highest_score(small: Any, whole: Any) -> None:
    path = whole(small("standard", **LEARNS))
    scores = {record["epoch"]: record["val_score"] for record in history.read(path)}
    best = max(scores, key=lambda done: (scores[done], -done))
    assert scores[best] > min(scores.values())
    kept = {entry.name for entry in RunDir(path).checkpoints.iterdir()}
    assert kept == {"epoch-0006", f"epoch-{best:04d}"}
    assert {row.epoch for row in read_rows(path) if row.checkpoint == "best"} == {best}
    expected = [(point["sa"] + point["ra"]) / 2 for point in history.read(path)[-1]["val"]]
    assert scores[6] == pytest.approx(sum(expected))


#: Accuracy goes up and down, and epochs differ in what they are best at.
UNSTEADY = {
    "train_examples": 300, "epochs": 6, "data__augment": False, "optim__lr": 0.3, "optim__schedule": "constant",
    "attack__epsilon": 0.1, "eval__attack__epsilon": 0.1, "eval__train_examples": 0, "eval__sentinel": "off",
}  # fmt: skip


@pytest.mark.parametrize("rule", ["ra", "each"])
def test_selection_rule_decides_the_best_checkpoint(rule: str, small: Any, whole: Any) -> None:
    path = whole(small("float", **UNSTEADY, eval__select=rule))
    curves = {record["epoch"]: record["val"] for record in history.read(path)}
    of = {"ra": ("ra",), "each": ("sa", "ra")}[rule]
    scores = {done: sum(at[metric] for at in curve for metric in of) for done, curve in curves.items()}
    best = max(scores, key=lambda done: (round(scores[done], 9), -done))
    assert load_shared(checkpoint.latest(RunDir(path).checkpoints))["best"][0] == best
    rows = [row for row in read_rows(path) if row.split == "test"]
    assert {row.epoch for row in rows if row.checkpoint == "best"} == {best}
    points = read_json(path / FINISHED_FILE)["points"]
    assert [("each" in point) for point in points] == [rule == "each"] * 2
    if rule == "each":
        check_winners(curves, points, [row for row in rows if row.checkpoint == "each"])
        kept = {point["each"][f"{metric}_epoch"] for point in points for metric in ("sa", "ra")} | {best, 6}
        assert {entry.name for entry in RunDir(path).checkpoints.iterdir()} == {f"epoch-{done:04d}" for done in kept}


def check_winners(curves: dict[int, Any], points: list[Any], rows: list[Row]) -> None:
    """Each point's own best epoch by metric, and its accuracy on test in rows and summary."""
    found = {(row.lam, "sa" if row.attack == "none" else "ra"): row for row in rows}
    assert len(found) == len(rows) == 2 * len(points)
    for number, point in enumerate(points):
        for metric in ("sa", "ra"):
            score = {done: curve[number][metric] for done, curve in curves.items()}
            epoch = max(score, key=lambda done: (score[done], -done))
            row = found[point["lam"], metric]
            assert row.epoch == point["each"][f"{metric}_epoch"] == epoch
            assert row.num_correct / row.num_examples == point["each"][metric]
    assert {row.epoch for row in rows} != {6}


def test_training_learns(small: Any, whole: Any) -> None:
    losses = [record["train_loss"] for record in history.read(whole(small("standard", **LEARNS)))]
    assert losses[-1] < 0.6 * losses[0]


def test_non_finite_loss_stops_before_saving(small: Any, tmp_path: Path) -> None:
    config = small("standard", optim__lr=1e30)
    with pytest.raises(FloatingPointError, match=r"epoch \d: .*(nan|inf).*optim\.lr"):
        run_fit(config, tmp_path / "a")
    assert checkpoint.latest(RunDir(tmp_path / "a").checkpoints) is None
    assert not RunDir(tmp_path / "a").finished


def on_rank(rank: int, world: int, config: Config, path: Path) -> None:
    fit.fit(config, World(rank, world), path)


@pytest.mark.parametrize("method", quick("float", of=["pgd_at", "float", "oat"]))
def test_two_processes_sharing_statistics_train_as_one(
    small: Any, tmp_path: Path, run_ranks: Any, whole: Any, method: str
) -> None:
    config = small(method, epochs=1, shared_statistics=True, optim__lr=0.01)
    with RunDir(tmp_path).begin(config):
        run_ranks(on_rank, 2, config, tmp_path)
    one, other = (load(path, "last").state_dict() for path in (tmp_path, whole(config)))
    for name, tensor in one.items():
        assert torch.allclose(tensor.double(), other[name].double(), atol=2e-4), name


def evaluated_on_rank(rank: int, world: int, config: Config, path: Path) -> dict[str, Tensor]:
    """The network that a run of several ranks evaluates after resuming its last checkpoint."""
    trainer = build_trainer(config, World(rank, world), RunDir(path), 0)
    checkpointing.resume_training(trainer)
    return trainer.evaluated_model().state_dict()


def mean_of(name: str) -> str:
    """Name of the running mean that belongs to a running variance."""
    return name.removesuffix("var").removesuffix("mean") + "mean"


def test_evaluated_network_averages_rank_statistics(small: Any, tmp_path: Path, run_ranks: Any) -> None:
    config = small("float", epochs=1)
    with RunDir(tmp_path / "a").begin(config):
        run_ranks(on_rank, 2, config, tmp_path / "a")
        evaluated = run_ranks(evaluated_on_rank, 2, config, tmp_path / "a")
    loaded = load(tmp_path / "a", "last")
    last = checkpoint.latest(RunDir(tmp_path / "a").checkpoints)
    assert last is not None
    parts = [checkpoint.load_rank_state(last, rank)["statistics"] for rank in (0, 1)]
    for name, tensor in loaded.state_dict().items():
        assert all(torch.equal(found[name], tensor) for found in evaluated), name
        if name.endswith(("running_mean", "running_var")):
            between = (parts[0][mean_of(name)] - parts[1][mean_of(name)]) / 2 if name.endswith("var") else 0 * tensor
            assert torch.allclose(tensor, (parts[0][name] + parts[1][name]) / 2 + between.square())
    assert not loaded.training


class Inspected(Exception):
    """Ends a run once its first epoch was inspected."""


@pytest.mark.parametrize(("train", "kept"), [("float32", False), ("bf16", True)])
def test_float32_training_never_rounds_to_tf32(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: str, kept: bool
) -> None:
    def look(trainer: Any, progress: Any) -> None:
        assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is kept
        raise Inspected

    monkeypatch.setattr(fit, "train_epoch", look)
    # monkeypatch cannot restore the settings of matmul, which are not plain attributes.
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    try:
        with pytest.raises(Inspected):
            run_fit(small("float", precision__train=train), tmp_path / "a")
        assert torch.backends.cudnn.allow_tf32 and torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_a_batch_larger_than_the_data_is_refused(small: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^batch_size=200: .*1 to 100"):
        run_fit(small("float", batch_size=200), tmp_path / "a")


def test_a_checkpoint_of_another_network_is_refused(small: Any, tmp_path: Path, whole: Any) -> None:
    shutil.copytree(whole(small("float", epochs=2)), tmp_path, dirs_exist_ok=True)
    for other in (small("float", epochs=2, model__widths="4,6"), small("pgd_at", epochs=2)):
        with pytest.raises(ConfigError, match="epoch-0002"):
            fit.fit(other, World(), tmp_path)


def test_step_randomness_depends_on_its_position(small: Any, tmp_path: Path) -> None:
    trainer = build_trainer(small("oat", eval__lam_grid="0,1"), World(), RunDir(tmp_path), 0)
    one, again, other = (
        epoch.step_randomness(trainer, 0),
        epoch.step_randomness(trainer, 0),
        epoch.step_randomness(trainer, 1),
    )
    assert torch.equal(one.lam, again.lam)
    assert not torch.equal(one.lam, other.lam)
    assert torch.equal(one.lam, one.lam.sort().values)
    trainer.position = Position(0, 1, 1)
    assert not torch.equal(epoch.step_randomness(trainer, 0).lam, one.lam)
    elsewhere = build_trainer(small("oat", eval__lam_grid="0,1"), World(1, 1), RunDir(tmp_path), 0)
    assert torch.equal(epoch.step_randomness(elsewhere, 0).lam, one.lam)
