"""On a real SLURM: signals, preemption and a node that goes dark; the run goes on by itself to the same bits.

What must never happen: work done twice, a requeue that is lost, a job that hangs.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from distcond.engine.checkpoint import newest
from distcond.results import history

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        "DISTCOND_SLURM_INTERRUPT" not in os.environ,
        reason="a run of this length is over before it is met on a fast, idle machine: set DISTCOND_SLURM_INTERRUPT=1",
    ),
]
#: Seconds of training, with places to stop at within an epoch.
LONG = ("epochs=30", "attack.num_steps=7", "train_examples=1200", "batch_size=32", "eval.every=30")


def weights(run: Path) -> dict[str, list[float]]:
    """Of a run's last checkpoint."""
    last = newest(run / "checkpoints")
    assert last is not None
    return {name: value.tolist() for name, value in torch.load(last / "shared.pt", weights_only=True)["model"].items()}


@pytest.fixture(scope="module")
def uninterrupted(slurm: Any, make_bench: Any) -> dict[str, list[float]]:
    """The weights at the end of a run that nobody disturbs."""
    bench = make_bench()
    bench.submit(*LONG)
    assert bench.settle()[0].state == "finished", bench.logs()
    return weights(Path(bench.sweep.runs[0].run_dir))


def check(bench: Any, uninterrupted: dict[str, list[float]], starts: int) -> None:
    """The run is finished, by one job, every epoch counted once, with the weights of a run without interruptions."""
    assert bench.settle()[0].state == "finished", bench.logs()
    run = Path(bench.sweep.runs[0].run_dir)
    assert len(json.loads((run / "starts.json").read_text())) == starts, bench.logs()
    assert len(bench.sweep.submissions()) == 1
    assert [record["epoch"] for record in history.read(run)] == list(range(1, 31))
    assert weights(run) == uninterrupted


def test_the_signal_leads_to_a_checkpoint_and_a_requeue(slurm: Any, bench: Any, uninterrupted: Any) -> None:
    bench.submit(*LONG, time_min=9)  # submitit would call every signal to so short a job a time-out
    bench.in_training()
    (job,) = (one.job for one in bench.wait(lambda found: bool(found[0].job), "a job"))
    slurm.ask(f"scancel --signal=USR2 {job}")
    bench.wait(lambda found: "requeued" in found[0].detail or found[0].state == "finished", "the requeue")
    run = Path(bench.sweep.runs[0].run_dir)
    end = json.loads((bench.sweep.path / "ended" / f"{run.name}.json").read_text())
    assert (end["status"], end["why"]) == (143, "requeued"), bench.logs()
    assert newest(run / "checkpoints") is not None
    check(bench, uninterrupted, starts=2)


def test_a_job_of_a_higher_partition_only_interrupts(slurm: Any, bench: Any, uninterrupted: Any) -> None:
    bench.submit(*LONG, sbatch={"nodelist": "n1"})
    bench.in_training()
    slurm.ask("sbatch --partition=high --nodelist=n1 --cpus-per-task=2 --mem=3000 --output=/dev/null --wrap=true")
    check(bench, uninterrupted, starts=2)


def test_a_node_that_goes_dark_costs_time_but_no_work(separate: Any, bench: Any, uninterrupted: Any) -> None:
    bench.submit(*LONG, "save_steps=5", sbatch={"exclude": "n[1-2]"})
    bench.in_training()
    dark = bench.wait(lambda found: found[0].state == "running", "running")[0]
    node = separate.ask(f"squeue -h -j {dark.job} -o %N")
    separate.node("off", node)
    try:
        # For the accounts the job is over (NODE_FAIL), for SLURM it is not: submitting it again would do it twice.
        bench.wait(lambda found: found[0].state == "waiting" and "starts" not in found[0].detail, "the requeue")
        assert "nothing to retry" in bench.call("retry")[1]
        check(bench, uninterrupted, starts=2)
        assert "nothing to retry" in bench.call("retry")[1]
        if separate.abilities["accounting"]:
            said = separate.ask(f"sacct -D -n -X -P -j {dark.job} --format=State,NodeList")
            assert f"NODE_FAIL|{node}" in said.splitlines(), said
    finally:
        separate.node("on", node)
