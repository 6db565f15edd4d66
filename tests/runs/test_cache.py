"""Local copies of runs at a URI."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distcond.config.schema import Config
from distcond.distributed.world import World
from distcond.runs import run_cache
from distcond.runs.load_run import load
from distcond.runs.remote import remote_run_of
from distcond.runs.run_dir import RunDir
from distcond.runs.run_files import find_runs
from distcond.storage.uri import open_store
from distcond.training.fit import fit


def train(config: Config, path: Path) -> None:
    with RunDir(path).begin(config):
        fit(config, World(), path)
    home = remote_run_of(config, path)
    assert home is not None
    home.push_final()


@pytest.fixture(scope="module")
def uris(small: Callable[..., Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """URIs of two runs of one name below `old` and `new`; their working directories below `again`."""
    root = tmp_path_factory.mktemp("uris")
    for name, settings in (("old", {"eval__train_examples": 32}), ("new", {"eval__train_examples": 0, "seed": 1})):
        config = replace(small(epochs=1, **settings), run_root=f"file://{root}/{name}")
        train(config, root / "again" / name / "run")
    return root


@pytest.mark.parametrize("below", ["", "/run"])
def test_retrained_run_replaces_the_cached_copy(
    uris: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    monkeypatch.setattr(run_cache, "staging", lambda uri, cache, purpose: tmp_path / purpose)
    at = f"file://{tmp_path}/there"
    shutil.copytree(uris / "old", tmp_path / "there")
    there = at + below

    def read() -> Path:
        (run,) = find_runs(run_cache.fetch_run(there, checkpoints=bool(below)))
        return Path(run.path)

    first = read()
    assert (first / "results" / "train-last.parquet").exists()
    start = RunDir(first).start_id
    if below:
        old = load(there, "last").state_dict()
    open_store(at).delete_below("run")
    shutil.copytree(uris / "new", tmp_path / "there", dirs_exist_ok=True)
    assert RunDir(read()).start_id != start
    assert not (first / "results" / "train-last.parquet").exists()
    if below:
        one, other = load(there, "last").state_dict(), load(uris / "again" / "new" / "run", "last").state_dict()
        assert all(torch.equal(value, other[name]) for name, value in one.items())
        assert any(not torch.equal(value, old[name]) for name, value in one.items())
    before = {file: file.stat().st_mtime_ns for file in first.rglob("*.p*") if file.is_file()}
    assert read() == first
    assert before == {
        file: file.stat().st_mtime_ns for file in first.rglob("*.p*") if file.is_file()
    }  # not fetched again
