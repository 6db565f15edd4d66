"""What workers tell each other before the first step."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distcond.config.schema import DataConfig
from distcond.distributed.collectives import all_gather_text
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.launch.ray.worker import is_shared, shared_dir_probe, verify_data_on_nodes
from distcond.runs.attempts import begin_attempt, last_world_size
from distcond.runs.failures import WorkerError


def texts(rank: int, world: int, said: list[str]) -> list[str]:
    return all_gather_text(World(rank, world), said[rank])


def test_texts_of_any_length_reach_everyone(run_ranks: Any) -> None:
    said = ["", "ä word and\nanother", "x" * 1000]
    assert run_ranks(texts, 3, said) == [said] * 3
    assert all_gather_text(World(), "alone") == ["alone"]


def begun(rank: int, world: int, paths: list[Path]) -> list[Any]:
    path, attempt = begin_attempt(World(rank, world), paths[rank], 3)
    return [str(path), attempt]


def test_the_first_workers_directory_and_attempt_count(run_ranks: Any, tmp_path: Path) -> None:
    assert run_ranks(begun, 2, [tmp_path, Path("elsewhere")]) == [[str(tmp_path), 3]] * 2
    assert last_world_size(tmp_path) == 2


def images(rank: int, world: int, data: list[DataConfig]) -> str:
    try:
        verify_data_on_nodes(data[rank], World(rank, world))
    except ConfigError as error:
        return str(error)
    return "ready"


def test_workers_need_the_same_images(run_ranks: Any, tmp_path: Path) -> None:
    data = DataConfig(loader="memory", cache_dir=str(tmp_path / "cache"))
    assert run_ranks(images, 2, [data, data]) == ["ready"] * 2
    for name in ("a", "b"):
        shades = np.full((3, 8, 8, 3), ord(name), np.uint8)
        np.savez(tmp_path / f"{name}.npz", image=shades, label=np.arange(3))
    other = [dataclasses.replace(data, extra=str(tmp_path / f"{name}.npz")) for name in "ab"]
    one, two = run_ranks(images, 2, other)
    assert one == two
    assert one.startswith("data.root: other images on ") and one.endswith("; needed: the same files on every node")


def test_directory_of_the_same_name_is_not_shared(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    with shared_dir_probe(here) as word, shared_dir_probe(there):
        assert is_shared(here, word)
        assert not is_shared(there, word, patience=0)
        assert not is_shared(tmp_path / "nowhere", word, patience=0)
    assert not list(here.iterdir())


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
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
    assert (caught.value.kind, caught.value.where) == ("chance", "before it began")
    assert caught.value.line.startswith("FileExistsError: ")
