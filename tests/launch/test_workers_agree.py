"""What workers check among each other before the first step."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond.config.schema import DataConfig
from distcond.distributed.world import World, all_gather_text
from distcond.errors import ConfigError
from distcond.launch.ray.worker import is_shared, shared_dir_probe, verify_data_on_nodes, with_absolute_paths
from distcond.runs.attempts import begin_attempt, last_world_size
from distcond.runs.failures import WorkerError


def gather(rank: int, world: int, texts: list[str]) -> list[str]:
    return all_gather_text(World(rank, world), texts[rank])


def test_texts_of_any_length_are_gathered(run_ranks: Any) -> None:
    texts = ["", "ä word and\nanother", "x" * 1000]
    assert run_ranks(gather, 3, texts) == [texts] * 3
    assert all_gather_text(World(), "alone") == ["alone"]


def begin(rank: int, world: int, paths: list[Path]) -> list[Any]:
    path, attempt = begin_attempt(World(rank, world), paths[rank], 3)
    return [str(path), attempt]


def test_rank_0_decides_directory_and_attempt(run_ranks: Any, tmp_path: Path) -> None:
    assert run_ranks(begin, 2, [tmp_path, Path("elsewhere")]) == [[str(tmp_path), 3]] * 2
    assert last_world_size(tmp_path) == 2


def verify(rank: int, world: int, data: list[DataConfig]) -> str:
    try:
        verify_data_on_nodes(data[rank], World(rank, world))
    except ConfigError as error:
        return str(error)
    return "ready"


def test_workers_need_the_same_images(run_ranks: Any, tmp_path: Path) -> None:
    data = DataConfig(loader="memory", cache_dir=str(tmp_path / "cache"))
    assert run_ranks(verify, 2, [data, data]) == ["ready"] * 2
    for name in ("a", "b"):
        shades = np.full((3, 8, 8, 3), ord(name), np.uint8)
        np.savez(tmp_path / f"{name}.npz", image=shades, label=np.arange(3))
    other = [dataclasses.replace(data, extra=str(tmp_path / f"{name}.npz")) for name in "ab"]
    one, two = run_ranks(verify, 2, other)
    assert one == two
    assert one.startswith("data.root: different images on ")


def test_directory_of_the_same_name_is_not_shared(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    with shared_dir_probe(here) as probe, shared_dir_probe(there):
        assert is_shared(here, probe)
        assert not is_shared(there, probe, timeout=0)
        assert not is_shared(tmp_path / "nowhere", probe, timeout=0)
    assert not list(here.iterdir())


def test_unwritable_run_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(ConfigError, match=r"^run_root: cannot write .*file \(.*\); set run_root=DIR$"),
        shared_dir_probe(tmp_path / "file"),
    ):
        pass


def test_unrecorded_start_may_be_retried(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkerError) as caught:
        begin_attempt(World(), tmp_path / "file", 0)
    assert (caught.value.kind, caught.value.where) == ("transient", "before it began")
    assert caught.value.line.startswith("NotADirectoryError: ")


def test_workers_get_absolute_paths(tiny: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert with_absolute_paths(tiny("float", init_from="runs/a")).init_from == str(tmp_path / "runs" / "a")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert with_absolute_paths(tiny("float", init_from="~/a.pth")).init_from == str(tmp_path / "home" / "a.pth")
    assert with_absolute_paths(tiny("float")).init_from == ""
