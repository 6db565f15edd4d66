"""A population on a real Ray whose driver is killed right after an exploit: it resumes and repeats nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.results import history
from distcond.results.store import part_files, read_rows
from distcond.runs.attempts import epochs_done
from distcond.runs.checkpoint import load_rank_state, load_shared
from distcond.runs.run_dir import RunDir
from support import sweeps
from support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(2000)]

PBT = ("scheduler=pbt", "interval=1", "quantile=0.5", "optim.schedule=constant", sweeps.ONE)


def test_killed_population_resumes_and_repeats_nothing(place: Any) -> None:
    sweep = place.path / "sweep"
    process = sweeps.begin(place, 2, *PBT)
    wait_until(lambda: _children(sweep), "an exploit", sweeps.LIMIT, process=process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (child,) = _children(sweep)
    _has_the_parents_network(child)
    kept = _trained(sweep)
    process = sweeps.command(place, "--resume", "sweep")
    assert process.wait() == 0, process.output
    assert kept.items() <= _trained(sweep).items(), "an epoch with a checkpoint was trained again"
    found = sweeps.trials(sweep)
    assert [trial.state for trial in found] == ["finished"] * 2, process.output
    for trial in found:
        assert [point[0] for point in trial.curve] == [1, 2]
        _has_nothing_twice(Path(trial.run))
        assert RunDir(Path(trial.run)).config().optim.lr == pytest.approx(trial.params["optim.lr"])
    (forked,) = (trial for trial in found if trial.lineage)
    (fork,) = forked.lineage
    assert Path(forked.run) == child and json.loads((child / "lineage.json").read_text())["epoch"] == 1
    records, config = history.read(child), RunDir(child).config()
    assert [record["epoch"] for record in records] == [2] and {record["lr"] for record in records} == {config.optim.lr}
    assert config.optim.lr != RunDir(Path(fork["run_dir"])).config().optim.lr


def _children(sweep: Path) -> list[Path]:
    """Runs that an exploit has begun. Their checkpoint comes after their lineage."""
    runs = [file.parent for file in sweep.glob("runs/*/lineage.json")]
    return [run for run in runs if (run / "checkpoints" / "epoch-0001").is_dir()]


def _has_the_parents_network(child: Path) -> None:
    parent = child.parent / json.loads((child / "lineage.json").read_text())["run"]
    both = [run / "checkpoints" / "epoch-0001" for run in (parent, child)]
    theirs, ours = ({**load_shared(at)["model"], **load_rank_state(at, 0)["statistics"]} for at in both)
    assert theirs.keys() == ours.keys() and all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())


def _has_nothing_twice(run: Path) -> None:
    rows, stored = read_rows(run), part_files(run)
    assert len({part.stem for part in stored}) == len(stored)
    assert len({(row.split, row.checkpoint, row.epoch, row.lam, row.attack) for row in rows}) == len(rows) > 0


def _trained(sweep: Path) -> dict[tuple[str, int], str]:
    """Every epoch that a checkpoint covers, with its record in the history, which has the seconds it took."""
    return {
        (run.name, record["epoch"]): repr(record)
        for run in (sweep / "runs").glob("[!.]*/")
        for record in history.read(run)
        if record["epoch"] <= epochs_done(run)
    }
