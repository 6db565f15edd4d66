"""A sweep whose driver is killed goes on where it was."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from distcond.engine.leg import epochs_done
from distcond.results import history, trials
from distcond.results.store import parts, read_rows
from support import sweeps
from support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(3600)]


TRIALS = 6


def test_a_sweep_killed_twice_trains_nothing_twice(place: Any) -> None:
    sweep = place.path / "sweep"
    process = sweeps.begin(place, TRIALS)
    kept: dict[tuple[str, int], Any] = {}
    for enough in (1, 3):
        wait_until(lambda n=enough: ended(sweep) >= n, f"{enough} trials", sweeps.LIMIT, process=process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept |= trained(sweep)
        process = sweeps.command(place, "--resume", "sweep")
    assert process.wait() == 0, process.output
    found = trials(sweep)
    assert list(found["trial"]) == list(range(TRIALS))
    assert set(found["state"]) == {"finished"}, process.output
    assert len(set(found["run"])) == TRIALS
    assert kept.items() <= trained(sweep).items(), "an epoch with a checkpoint was trained again"
    for run in found["run"]:
        assert [record["epoch"] for record in history.read(sweep / run)] == [1, 2]
        rows, stored = read_rows(sweep / run), len(parts(sweep / run))
        assert len({part.stem for part in parts(sweep / run)}) == stored
        assert len({(row.split, row.checkpoint, row.epoch, row.lam, row.attack) for row in rows}) == len(rows)


def ended(sweep: Path) -> int:
    return sum(trial["state"] == "finished" for trial in sweeps.trials(sweep))


def trained(sweep: Path) -> dict[tuple[str, int], str]:
    """Every epoch that a checkpoint vouches for, as its record stands in the history: with the seconds it took."""
    runs = [Path(entry) for entry in os.scandir(sweep / "runs") if entry.is_dir()]
    return {
        (run.name, record["epoch"]): repr(record)
        for run in runs
        for record in history.read(run)
        if record["epoch"] <= epochs_done(run)
    }
