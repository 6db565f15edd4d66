"""On a real SLURM: signals, preemption and a lost node. The run resumes by itself and ends with the same weights.

No work may be done twice, no requeue be lost, and no job hang.
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
#: Long enough to be stopped within an epoch.
EPOCHS = 3
LONG = ("method=faulty:METHOD", f"epochs={EPOCHS}", "train_examples=1200", "batch_size=32", f"eval.every={EPOCHS}")


def weights(run: Path) -> dict[str, list[float]]:
    """The weights in a run's last checkpoint."""
    last = latest(run / "checkpoints")
    assert last is not None
    return {name: value.tolist() for name, value in torch.load(last / "shared.pt", weights_only=True)["model"].items()}


@pytest.fixture(scope="module")
def uninterrupted(slurm: Any, make_bench: Any, slow_runs: Any) -> Any:
    """The bench of an uninterrupted run: submitted here; tests that need its end wait for it."""
    bench = make_bench()
    bench.submit(*LONG, sbatch={"nodelist": "n2"})  # no test preempts jobs on this node or switches it off
    return bench


def finished(bench: Any) -> Path:
    """Wait until the only run of a bench is finished. Returns its directory."""
    assert bench.settle()[0].state == "finished", bench.logs()
    return Path(bench.sweep.runs[0].run_dir)


def check(bench: Any, uninterrupted: Any, starts: int) -> None:
    """Check that one job finished the run, with every epoch once and the weights of the uninterrupted run."""
    run, expected = finished(bench), weights(finished(uninterrupted))
    assert len(json.loads((run / "starts.json").read_text())) == starts, bench.logs()
    assert len(bench.sweep.submissions()) == 1
    assert [record["epoch"] for record in history.read(run)] == list(range(1, EPOCHS + 1))
    assert not [name for name, value in weights(run).items() if value != expected[name]]


def account(name: str, since: str) -> Job:
    """The job of this name in sacct, which `status` reads once squeue has dropped the job."""
    accounts = sacct([name], since)
    assert not isinstance(accounts, str), accounts
    return accounts[name, 0]


def test_signal_leads_to_checkpoint_and_requeue(slurm: Any, bench: Any, uninterrupted: Any, slow_runs: Any) -> None:
    # So short that submitit itself would count every signal as a time-out.
    bench.submit(*LONG, time_min=9, environment=slow_runs(bench))
    bench.in_training()
    (job,) = (one.job for one in bench.wait(lambda found: bool(found[0].job), "a job"))
    slurm.ask(f"scancel --signal=USR2 {job}")
    end = bench.interrupted()
    assert (end["status"], end["why"]) == (143, "requeued"), bench.logs()
    last = latest(Path(bench.sweep.runs[0].run_dir) / "checkpoints")
    assert last is not None and step_of(last).step > 0
    bench.speed_up()
    check(bench, uninterrupted, starts=2)


def test_submitted_run_trains(slurm: Any, uninterrupted: Any) -> None:
    run = finished(uninterrupted)
    assert [record["epoch"] for record in history.read(run)] == list(range(1, EPOCHS + 1))
    assert {row.checkpoint for row in read_rows(run) if row.split == "test"} == {"best", "last"}
    assert "of 1 of 1 runs" in uninterrupted.call("gather")[1]


@pytest.mark.cluster
def test_two_nodes_stop_and_resume_together(separate: Any, bench: Any, make_bench: Any, slow_runs: Any) -> None:
    undisturbed = make_bench()
    undisturbed.submit(*LONG, nodes=2)
    bench.submit(*LONG, nodes=2, environment=slow_runs(bench))
    bench.in_training()
    (job,) = (one.job for one in bench.wait(lambda found: bool(found[0].job), "a job"))
    separate.ask(f"scancel --signal=USR2 {job}")
    assert bench.interrupted()["why"] == "requeued", bench.logs()
    (second,) = bench.sweep.jobs.glob("*_1_log.err")
    assert "forwarding SIGUSR2 to the run" in second.read_text()
    bench.speed_up()
    check(bench, undisturbed, starts=2)
    for run in (undisturbed.sweep.runs[0], bench.sweep.runs[0]):
        assert {row.world_size for row in read_rows(run.run_dir)} == {2}


@pytest.mark.cluster
def test_signal_reaches_a_container_step(slurm: Any, bench: Any, slow_runs: Any) -> None:
    srun = bench.path / "srun"  # drops the options of the plugin, which is not installed
    srun.write_text(
        f'#!/bin/bash\nfor w; do [[ $w == --container-* ]] || a+=("$w"); done\nexec {which("srun")} "${{a[@]}}"\n'
    )
    srun.chmod(0o755)
    container = {"form": "pyxis", "image": "/none.sqsh", "python": sys.executable}
    path = [f'export PATH="{bench.path}:$PATH"']
    bench.submit(*LONG, container=container, setup=path, environment=slow_runs(bench))
    bench.in_training()
    (job,) = (one.job for one in bench.wait(lambda found: bool(found[0].job), "a job"))
    assert len(slurm.ask(f"squeue -h -s -j {job}").splitlines()) == 3, "not three steps: batch, the job, the container"
    slurm.ask(f"scancel --signal=USR2 {job}")
    end = bench.interrupted()
    assert (end["status"], end["why"]) == (143, "requeued"), bench.logs()
    bench.speed_up()
    assert bench.settle()[0].state == "finished", bench.logs()


@pytest.mark.cluster
def test_preempted_run_resumes(slurm: Any, bench: Any, uninterrupted: Any, slow_runs: Any) -> None:
    bench.submit(*LONG, sbatch={"nodelist": "n1"}, environment=slow_runs(bench))
    bench.in_training()
    slurm.ask("sbatch --partition=high --nodelist=n1 --cpus-per-task=2 --mem=3000 --output=/dev/null --wrap=true")
    assert bench.interrupted()["why"] == "requeued", bench.logs()
    bench.speed_up()
    check(bench, uninterrupted, starts=2)


@pytest.mark.cluster
def test_lost_node_loses_no_work(separate: Any, bench: Any, uninterrupted: Any, slow_runs: Any) -> None:
    bench.submit(*LONG, "save_steps=5", sbatch={"exclude": "n[1-2]"}, environment=slow_runs(bench))
    bench.in_training()
    running = bench.wait(lambda found: found[0].state == "running", "running")[0]
    node = separate.ask(f"squeue -h -j {running.job} -o %N")
    separate.node("off", node)
    try:
        # sacct says that the job is over (NODE_FAIL), but SLURM will run it again: do not submit it twice.
        bench.wait(lambda found: found[0].state == "waiting" and "starting" not in found[0].detail, "the requeue")
        assert "nothing to retry" in bench.call("retry")[1]
        bench.speed_up()
        check(bench, uninterrupted, starts=2)
        assert "nothing to retry" in bench.call("retry")[1]
        if not separate.abilities["accounting"]:
            pytest.skip("no slurmdbd and MariaDB here: only the output of sacct was not checked")
        accounts = separate.ask(f"sacct -D -n -X -P -j {running.job} --format=State,NodeList")
        assert f"NODE_FAIL|{node}" in accounts.splitlines(), accounts
        name, since = bench.sweep.submissions()[0]["name"], bench.sweep.manifest["created"]
        bench.wait(lambda _: account(name, since).state == "COMPLETED", "the end in the accounts")
        assert account(name, since).id == running.job
    finally:
        separate.node("on", node)
