"""A population on a real Ray: exploits copy networks, and mutated values train on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.engine.checkpoint import load_own, load_shared
from distcond.engine.run_dir import RunDir
from distcond.results import history
from support import sweeps
from support.processes import Process
from support.waiting import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(2000)]


def test_population_exploits_and_trains_the_mutated_value(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)  # where the method lies that the runs' configs name
    slow, swift = ("method=faulty:METHOD", "batch_size=16"), place.path / "swift"
    words = ("scheduler=pbt", "interval=1", "quantile=0.5", "optim.schedule=constant", "epochs=3")
    faults = {"FAULT_SLOW": str(swift), "FAULT_SLOW_SECONDS": "2"}
    process = sweeps.begin(place, 2, *words, *slow, **faults)
    found = place.path / "sweep" / "runs"
    wait_until(lambda: list(found.glob("*/lineage.json")), "an exploit", sweeps.LIMIT, process=process)
    # Both are at the checkpoint of the exploit still: new workers and eight slow steps are between them and the next.
    for heir in found.glob("*/lineage.json"):
        _has_the_donors_network(heir.parent, process)
    swift.touch()
    assert process.wait() == 0, process.output
    sweep, lineages = place.path / "sweep", 0
    for trial in sweeps.trials(sweep):
        assert trial["state"] == "finished", process.output
        assert [point[0] for point in trial["curve"]] == [1, 2, 3]
        heirs = [*(fork["own_run"] for fork in trial["lineage"]), trial["run"]][1:]
        for fork, run in zip(trial["lineage"], heirs, strict=True):
            lineages += 1
            assert json.loads((sweep / run / "lineage.json").read_text())["run"] == Path(fork["run"]).name
            records, config = history.read(sweep / run), RunDir(sweep / run).config()
            assert records[0]["epoch"] == fork["epoch"] + 1
            assert {record["lr"] for record in records} == {config.optim.lr}
            # Not beside its own last value: a second exploit of one donor may move the donor's to the same again.
            assert config.optim.lr != RunDir(sweep / fork["run"]).config().optim.lr
        assert RunDir(sweep / trial["run"]).config().optim.lr == pytest.approx(trial["drawn"]["optim.lr"])
    assert lineages == 2, "one of two, after each of two rounds"


def _has_the_donors_network(heir: Path, process: Process) -> None:
    lineage = json.loads((heir / "lineage.json").read_text())
    both = [run / "checkpoints" / f"epoch-{lineage['epoch']:04d}" for run in (heir.parent / lineage["run"], heir)]
    wait_until(both[1].is_dir, "the heir's checkpoint, which comes after its lineage", process=process)
    theirs, ours = ({**load_shared(at)["model"], **load_own(at, 0)["statistics"]} for at in both)
    assert theirs.keys() == ours.keys() and all(torch.equal(tensor, ours[name]) for name, tensor in theirs.items())
