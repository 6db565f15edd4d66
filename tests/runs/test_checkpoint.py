"""A checkpoint is complete or absent, and an unreadable one is refused in one line."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from distcond.distributed.running_statistics import pool_over_ranks
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.layers.condition import Condition
from distcond.layers.dual_norm import DualBatchNorm2d
from distcond.runs import checkpoint
from distcond.runs.checkpoint import CheckpointStep


def network(fill: float = 1.0) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    net[1].running_mean.fill_(fill)
    return net


def save_network(root: Path, epoch: int = 1, fill: float = 1.0, **shared: Any) -> Path:
    return checkpoint.save_checkpoint(root, CheckpointStep(epoch), World(), network(fill), shared, {})


def test_saved_state_is_loaded(tmp_path: Path) -> None:
    net = network(0.5)
    path = checkpoint.save_checkpoint(
        tmp_path, CheckpointStep(3), World(), net, {"best": (2, 0.5), "position": (0, 3, 3)}, {}
    )
    assert path == tmp_path / "epoch-0003"
    shared = checkpoint.load_shared(path)
    assert (shared["best"], shared["position"], shared["epoch"], shared["world_size"]) == ((2, 0.5), (0, 3, 3), 3, 1)
    assert all(torch.equal(shared["model"][name], tensor) for name, tensor in net.state_dict().items())
    statistics = checkpoint.load_rank_state(path, 0)["statistics"]
    assert set(statistics) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert checkpoint.step_of(path) == CheckpointStep(3)


def test_latest_checkpoint_is_that_of_the_latest_step(tmp_path: Path) -> None:
    assert checkpoint.latest(tmp_path / "missing") is None
    assert checkpoint.latest(tmp_path) is None
    for epoch in (9, 12, 10, 9999, 10000):
        save_network(tmp_path, epoch)
    assert checkpoint.latest(tmp_path) == tmp_path / "epoch-10000"
    for step in (9, 1_000_000, 10):
        checkpoint.save_checkpoint(tmp_path, CheckpointStep(10000, step), World(), network(), {}, {})
    assert checkpoint.latest(tmp_path) == tmp_path / "epoch-10000-step-1000000"
    save_network(tmp_path, 10001)
    assert checkpoint.latest(tmp_path) == tmp_path / "epoch-10001"


def test_interrupted_save_is_ignored_and_removed(tmp_path: Path) -> None:
    save_network(tmp_path, 1)
    left = tmp_path / ".epoch-0002"
    left.mkdir()
    (left / "shared.pt").write_bytes(b"half")
    (left / "rank-0007.pt").write_bytes(b"of an attempt with more ranks")
    assert checkpoint.latest(tmp_path) == tmp_path / "epoch-0001"
    save_network(tmp_path, 2)
    assert not left.exists()
    assert {file.name for file in (tmp_path / "epoch-0002").iterdir()} == {"shared.pt", "rank-0000.pt"}
    assert checkpoint.load_shared(tmp_path / "epoch-0002")["epoch"] == 2
    (tmp_path / ".epoch-0003").mkdir()
    checkpoint.delete_all_but(tmp_path, {"epoch-0001", "epoch-0002"})
    assert {entry.name for entry in tmp_path.iterdir()} == {"epoch-0001", "epoch-0002"}


def test_saving_again_keeps_the_existing_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_network(tmp_path, 1)
    monkeypatch.setattr(checkpoint.os, "rename", None)  # an existing checkpoint is never replaced
    save_network(tmp_path, 1)
    assert [entry.name for entry in tmp_path.iterdir()] == ["epoch-0001"]


@pytest.mark.parametrize("size", [0, 10, 500])
@pytest.mark.parametrize("name", ["shared.pt", "rank-0000.pt"])
def test_a_truncated_file_is_refused(tmp_path: Path, name: str, size: int) -> None:
    path = save_network(tmp_path)
    file = path / name
    file.write_bytes(file.read_bytes()[:size])
    load = checkpoint.load_shared if name == "shared.pt" else partial(checkpoint.load_rank_state, rank=0)
    with pytest.raises(ConfigError, match=f"{name}: .*delete") as refusal:
        load(path)
    assert "\n" not in str(refusal.value)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = save_network(tmp_path)
    torch.save({"schema_version": 1, "run": Path}, path / "shared.pt")
    with pytest.raises(ConfigError, match=r"shared\.pt: "):
        checkpoint.load_shared(path)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = save_network(tmp_path)
    state = torch.load(path / "shared.pt", weights_only=True) | {"schema_version": checkpoint.SCHEMA_VERSION + 1}
    torch.save(state, path / "shared.pt")
    with pytest.raises(ConfigError, match=r"epoch-0001: .*3.*1 and 2"):
        checkpoint.load_shared(path)


def test_other_checkpoints_are_deleted(tmp_path: Path) -> None:
    for epoch in (1, 2, 3, 4):
        save_network(tmp_path, epoch)
    (tmp_path / "notes.txt").write_text("mine")
    checkpoint.delete_all_but(tmp_path, {"epoch-0002", "epoch-0004"})
    assert {entry.name for entry in tmp_path.iterdir()} == {"epoch-0002", "epoch-0004", "notes.txt"}


def on_rank(rank: int, world: int, root: Path) -> dict[str, torch.Tensor]:
    path = checkpoint.save_checkpoint(root, CheckpointStep(1), World(rank, world), network(float(rank)), {}, {})
    return checkpoint.load_rank_state(path, rank)["statistics"]


def test_statistics_are_averaged_over_all_rank_files(tmp_path: Path, run_ranks: Any) -> None:
    found = run_ranks(on_rank, 2, tmp_path)
    path = tmp_path / "epoch-0001"
    assert {file.name for file in path.iterdir()} == {"shared.pt", *(f"rank-000{rank}.pt" for rank in range(2))}
    assert [statistics["1.running_mean"].tolist() for statistics in found] == [[float(rank)] * 4 for rank in range(2)]
    average = checkpoint.pooled_statistics(path)
    assert average["1.running_mean"].tolist() == [0.5] * 4
    # Within ranks, and between their means.
    assert average["1.running_var"].tolist() == pytest.approx([1.0 + 1 / 4] * 4)
    assert average["1.num_batches_tracked"].dtype == torch.int64
    assert checkpoint.load_shared(path)["world_size"] == 2
    # More ranks than parts: rank modulo parts.
    dealt = [checkpoint.load_rank_state(path, rank)["statistics"]["1.running_mean"] for rank in range(5)]
    assert [float(mean[0]) for mean in dealt] == [0, 1, 0, 1, 0]


def part(mean: float, var: float, moves: int) -> dict[str, torch.Tensor]:
    values = {"running_mean": torch.full((4,), mean), "running_var": torch.full((4,), var)}
    return {f"1.{name}": value for name, value in values.items()} | {"1.num_batches_tracked": torch.tensor(moves)}


def test_ranks_without_updates_are_ignored() -> None:
    # The third rank started from other weights, so its statistics are not the initial ones.
    parts = [part(1.0, 2.0, 5), part(3.0, 4.0, 5), part(9.0, 9.0, 0), part(0.0, 1.0, 0)]
    found = pool_over_ranks(parts, parts)
    assert found["1.running_mean"].tolist() == [2.0] * 4
    assert found["1.running_var"].tolist() == [3.0 + 1.0] * 4
    averaged = [{name: t for name, t in own.items() if "tracked" not in name} for own in parts]
    assert pool_over_ranks(averaged, parts)["1.running_var"].tolist() == [4.0] * 4
    still = [part(0.0, 1.0, 0)] * 2
    assert pool_over_ranks(still, still)["1.running_var"].tolist() == [1.0] * 4


def test_uncounted_updates_are_kept() -> None:
    parts = [part(1.0, 2.0, 5), part(3.0, 4.0, 0), part(0.0, 1.0, 0)]
    found = pool_over_ranks(parts, parts, counted=False)
    assert found["1.running_mean"].tolist() == [2.0] * 4


def rank_without_updates(rank: int, world: int, root: Path) -> list[torch.Tensor]:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), DualBatchNorm2d(4))
    rows = 4 if rank else 1  # one row per path does not update statistics
    net[1](torch.randn(rows, 4, 5, 5, generator=torch.Generator().manual_seed(rank)), Condition(torch.ones(1), True))
    wanted = {n: t.clone() for n, t in net.state_dict().items() if "adv.running" in n}
    path = checkpoint.save_checkpoint(root, CheckpointStep(1), World(rank, world), net, {}, {})
    found = checkpoint.pooled_statistics(path)
    return [found["1.adv.running_mean"], found["1.adv.running_var"], *wanted.values()]


def test_rank_of_single_rows_is_ignored(tmp_path: Path, run_ranks: Any) -> None:
    first, second = run_ranks(rank_without_updates, 2, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(first[:2], second[2:], strict=True))
    assert not torch.equal(first[0], torch.zeros(4))


def test_updates_are_counted() -> None:
    layer = DualBatchNorm2d(4)
    route = torch.tensor([False, True, True])
    layer(torch.randn(3, 4, 5, 5), Condition(torch.ones(3), route))
    assert (int(layer.clean.num_batches_tracked), int(layer.adv.num_batches_tracked)) == (0, 1)
