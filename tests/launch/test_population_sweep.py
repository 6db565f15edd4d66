"""A population on a real Ray whose driver is killed right after an exploit: it goes on where it was."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.results import history, trials
from distcond.results.store import part_files, read_rows
from distcond.runs.attempts import epochs_done
from distcond.runs.checkpoint import load_rank_state, load_shared
from distcond.runs.run_dir import RunDir
from support import sweeps
from support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(2000)]

PBT = ("scheduler=pbt", "interval=1", "quantile=0.5", "optim.schedule=constant", sweeps.ONE)


def test_killed_population_goes_on_and_repeats_nothing(place: Any) -> None:
    sweep = place.path / "sweep"
    process = sweeps.begin(place, 2, *PBT)
    wait_until(lambda: _inherited(sweep), "an exploit", sweeps.LIMIT, process=process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (heir,) = _inherited(sweep)
    _has_the_donors_network(heir)
    kept = _trained(sweep)
    assert [epoch for _, epoch in kept] == [1, 1], "both at the exploit still"
    process = sweeps.command(place, "--resume", "sweep")
    assert process.wait() == 0, process.output
    assert kept.items() <= _trained(sweep).items(), "an epoch with a checkpoint was trained again"
    found = trials(sweep)
    assert list(found["trial"]) == [0, 1] and set(found["state"]) == {"finished"}, process.output
    for trial in sweeps.trials(sweep):
        assert [point[0] for point in trial["curve"]] == [1, 2]
        _has_nothing_twice(sweep / trial["run"])
        assert RunDir(sweep / trial["run"]).config().optim.lr == pytest.approx(trial["drawn"]["optim.lr"])
    (forked,) = (trial for trial in sweeps.trials(sweep) if trial["lineage"])
    (fork,) = forked["lineage"]
    assert sweep / forked["run"] == heir and json.loads((heir / "lineage.json").read_text())["epoch"] == 1
    records, config = history.read(heir), RunDir(heir).config()
    assert [record["epoch"] for record in records] == [2] and {record["lr"] for record in records} == {config.optim.lr}
    assert config.optim.lr != RunDir(sweep / fork["run"]).config().optim.lr


def _inherited(sweep: Path) -> list[Path]:
    """Runs that an exploit has begun. Their checkpoint comes after their lineage."""
    runs = [file.parent for file in sweep.glob("runs/*/lineage.json")]
    return [run for run in runs if (run / "checkpoints" / "epoch-0001").is_dir()]


def _has_the_donors_network(heir: Path) -> None:
    donor = heir.parent / json.loads((heir / "lineage.json").read_text())["run"]
    both = [run / "checkpoints" / "epoch-0001" for run in (donor, heir)]
    theirs, ours = ({**load_shared(at)["model"], **load_rank_state(at, 0)["statistics"]} for at in both)
    assert theirs.keys() == ours.keys() and all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())


def _has_nothing_twice(run: Path) -> None:
    rows, stored = read_rows(run), part_files(run)
    assert len({part.stem for part in stored}) == len(stored)
    assert len({(row.split, row.checkpoint, row.epoch, row.lam, row.attack) for row in rows}) == len(rows) > 0


def _trained(sweep: Path) -> dict[tuple[str, int], str]:
    """Every epoch that a checkpoint vouches for, as its record stands in the history: with the seconds it took."""
    runs = [Path(entry) for entry in os.scandir(sweep / "runs") if entry.is_dir()]
    return {
        (run.name, record["epoch"]): repr(record)
        for run in runs
        for record in history.read(run)
        if record["epoch"] <= epochs_done(run)
    }
