"""On a real SLURM: signals, preemption and a node that goes dark; the run goes on by itself to the same bits.

What must never happen: work done twice, a requeue that is lost, a job that hangs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import torch

from cluster.slurm.queue import Job, sacct
from distcond.results import history
from distcond.results.store import read_rows
from distcond.runs.checkpoint import latest, step_of

pytestmark = pytest.mark.timeout(2400)
#: With places to stop at within an epoch.
EPOCHS = 3
LONG = ("method=faulty:METHOD", f"epochs={EPOCHS}", "train_examples=1200", "batch_size=32", f"eval.every={EPOCHS}")


def weights(run: Path) -> dict[str, list[float]]:
    """Of a run's last checkpoint."""
    last = latest(run / "checkpoints")
    assert last is not None
    return {name: value.tolist() for name, value in torch.load(last / "shared.pt", weights_only=True)["model"].items()}


@pytest.fixture(scope="module")
def uninterrupted(slurm: Any, make_bench: Any, slow_runs: Any) -> Any:
    """The bench of a run that nobody disturbs: submitted, and waited for by who needs its end."""
    bench = make_bench()
    bench.submit(*LONG, sbatch={"nodelist": "n2"})  # where no test preempts jobs or switches the node off
    return bench


def finished(bench: Any) -> Path:
    """The directory of a bench's only run, once that is finished."""
    assert bench.settle()[0].state == "finished", bench.logs()
    return Path(bench.sweep.runs[0].run_dir)


def check(bench: Any, uninterrupted: Any, starts: int) -> None:
    """The run is finished, by one job, every epoch counted once, with the weights of a run without interruptions."""
    run, wanted = finished(bench), weights(finished(uninterrupted))
    assert len(json.loads((run / "starts.json").read_text())) == starts, bench.logs()
    assert len(bench.sweep.submissions()) == 1
    assert [record["epoch"] for record in history.read(run)] == list(range(1, EPOCHS + 1))
    assert not [name for name, value in weights(run).items() if value != wanted[name]]


def account(name: str, since: str) -> Job:
    """What `status` would take from sacct for a job of this name, were squeue to have forgotten it."""
    accounts = sacct([name], since)
    assert not isinstance(accounts, str), accounts
    return accounts[name, 0]


def test_signal_leads_to_checkpoint_and_requeue(slurm: Any, bench: Any, uninterrupted: Any, slow_runs: Any) -> None:
    # submitit would call every signal to so short a job a time-out
    bench.submit(*LONG, time_min=9, environment=slow_runs(bench))
    bench.in_training()
    (job,) = (one.job for one in bench.wait(lambda found: bool(found[0].job), "a job"))
    slurm.ask(f"scancel --signal=USR2 {job}")
    end = bench.interrupted()
    assert (end["status"], end["why"]) == (143, "requeued"), bench.logs()
    last = latest(Path(bench.sweep.runs[0].run_dir) / "checkpoints")
    assert last is not None and step_of(last).step > 0
    bench.swift()
    check(bench, uninterrupted, starts=2)


def test_submitted_run_trains(slurm: Any, uninterrupted: Any) -> None:
    run = finished(uninterrupted)
    assert [record["epoch"] for record in history.read(run)] == list(range(1, EPOCHS + 1))
    assert {row.checkpoint for row in read_rows(run) if row.split == "test"} == {"best", "last"}
    assert "of 1 of 1 runs" in uninterrupted.call("gather")[1]


@pytest.mark.cluster
def test_two_nodes_stop_and_go_on_together(separate: Any, bench: Any, make_bench: Any, slow_runs: Any) -> None:
    undisturbed = make_bench()
    undisturbed.submit(*LONG, nodes=2)
    bench.submit(*LONG, nodes=2, environment=slow_runs(bench))
    bench.in_training()
    (job,) = (one.job for one in bench.wait(lambda found: bool(found[0].job), "a job"))
    separate.ask(f"scancel --signal=USR2 {job}")
    assert bench.interrupted()["why"] == "requeued", bench.logs()
    (second,) = bench.sweep.jobs.glob("*_1_log.err")
    assert "passing SIGUSR2 on to the run" in second.read_text()
    bench.swift()
    check(bench, undisturbed, starts=2)
    for run in (undisturbed.sweep.runs[0], bench.sweep.runs[0]):
        assert {row.world_size for row in read_rows(run.run_dir)} == {2}


@pytest.mark.cluster
def test_signal_reaches_a_container_step(slurm: Any, bench: Any, slow_runs: Any) -> None:
    srun = bench.path / "srun"  # without the plugin: its words are left out
    srun.write_text(
        f'#!/bin/bash\nfor w; do [[ $w == --container-* ]] || a+=("$w"); done\nexec {which("srun")} "${{a[@]}}"\n'
    )
    srun.chmod(0o755)
    container = {"form": "pyxis", "image": "/none.sqsh", "python": sys.executable}
    path = [f'export PATH="{bench.path}:$PATH"']
    bench.submit(*LONG, container=container, setup=path, environment=slow_runs(bench))
    bench.in_training()
    (job,) = (one.job for one in bench.wait(lambda found: bool(found[0].job), "a job"))
    assert len(slurm.ask(f"squeue -h -s -j {job}").splitlines()) == 3, "batch, the job's step and the container's"
    slurm.ask(f"scancel --signal=USR2 {job}")
    end = bench.interrupted()
    assert (end["status"], end["why"]) == (143, "requeued"), bench.logs()
    bench.swift()
    assert bench.settle()[0].state == "finished", bench.logs()


@pytest.mark.cluster
def test_a_job_of_a_higher_partition_only_interrupts(
    slurm: Any, bench: Any, uninterrupted: Any, slow_runs: Any
) -> None:
    bench.submit(*LONG, sbatch={"nodelist": "n1"}, environment=slow_runs(bench))
    bench.in_training()
    slurm.ask("sbatch --partition=high --nodelist=n1 --cpus-per-task=2 --mem=3000 --output=/dev/null --wrap=true")
    assert bench.interrupted()["why"] == "requeued", bench.logs()
    bench.swift()
    check(bench, uninterrupted, starts=2)


@pytest.mark.cluster
def test_dark_node_costs_time_but_no_work(separate: Any, bench: Any, uninterrupted: Any, slow_runs: Any) -> None:
    bench.submit(*LONG, "save_steps=5", sbatch={"exclude": "n[1-2]"}, environment=slow_runs(bench))
    bench.in_training()
    dark = bench.wait(lambda found: found[0].state == "running", "running")[0]
    node = separate.ask(f"squeue -h -j {dark.job} -o %N")
    separate.node("off", node)
    try:
        # For the accounts the job is over (NODE_FAIL), for SLURM it is not: submitting it again would do it twice.
        bench.wait(lambda found: found[0].state == "waiting" and "starts" not in found[0].detail, "the requeue")
        assert "nothing to retry" in bench.call("retry")[1]
        bench.swift()
        check(bench, uninterrupted, starts=2)
        assert "nothing to retry" in bench.call("retry")[1]
        if not separate.abilities["accounting"]:
            pytest.skip("no slurmdbd and MariaDB here: all of it held but for what sacct says, which was not looked at")
        said = separate.ask(f"sacct -D -n -X -P -j {dark.job} --format=State,NodeList")
        assert f"NODE_FAIL|{node}" in said.splitlines(), said
        name, since = bench.sweep.submissions()[0]["name"], bench.sweep.about["created"]
        bench.wait(lambda _: account(name, since).state == "COMPLETED", "the end in the accounts")
        assert account(name, since).id == dark.job
    finally:
        separate.node("on", node)
