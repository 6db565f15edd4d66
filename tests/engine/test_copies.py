"""Copies of runs at a URI, to be read here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from distcond.config.schema import Config
from distcond.engine import copies
from distcond.engine.fit import fit
from distcond.engine.home import home_of
from distcond.engine.restore import load
from distcond.engine.run_dir import RunDir
from distcond.engine.world import World
from distcond.results.run_files import runs_below
from distcond.storage.uri import open_store


def train(config: Config, path: Path) -> None:
    with RunDir(path).begin(config):
        fit(config, World(), path)
    home = home_of(config, path)
    assert home is not None
    home.leave()


@pytest.mark.parametrize("below", ["", "/run"])
def test_retrained_run_replaces_the_cached_copy(
    small: Callable[..., Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    monkeypatch.setattr(copies, "staging", lambda uri, cache, purpose: tmp_path / purpose)
    at = f"file://{tmp_path}/there"
    config = replace(small(epochs=2, eval__train_examples=32), run_root=at)
    train(config, tmp_path / "old" / "run")
    there = at + below

    def read() -> Path:
        (run,) = runs_below(copies.here(there, checkpoints=bool(below)))
        return Path(run.path)

    first = read()
    assert (first / "results" / "train-last.parquet").exists()
    mark = RunDir(first).mark
    if below:
        old = load(there, "last").state_dict()
    open_store(at).delete_below("run")
    train(replace(config, epochs=2, seed=1, eval=replace(config.eval, train_examples=0)), tmp_path / "new" / "run")
    assert RunDir(read()).mark != mark
    assert not (first / "results" / "train-last.parquet").exists()
    if below:
        one, other = load(there, "last").state_dict(), load(tmp_path / "new" / "run", "last").state_dict()
        assert all(torch.equal(value, other[name]) for name, value in one.items())
        assert any(not torch.equal(value, old[name]) for name, value in one.items())
    before = {file: file.stat().st_mtime_ns for file in first.rglob("*.p*") if file.is_file()}
    assert read() == first
    assert before == {file: file.stat().st_mtime_ns for file in first.rglob("*.p*") if file.is_file()}  # once is enough
