"""What a sweep of many runs costs on the login node: `python benchmarks/slurm_plan.py --runs 500 --rounds 3`.

Seconds of whole commands, imports included: plan, submit (manifest, claims and submitit's files), status while half of
the runs train and half have failed. Programs of this script's own stand in for SLURM's, so none of its time is in the
figures, which are median, least and most of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run the rounds and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--runs", type=int, default=500)
    arguments.add_argument("--rounds", type=int, default=3)
    told = arguments.parse_args()
    print(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    rounds = [once(told.runs) for _ in range(told.rounds)]
    print(f"\n| command, {told.runs} runs | s | least | most |\n|---|---|---|---|")
    for name in rounds[0]:
        found = [seconds[name] for seconds in rounds]
        print(f"| {name} | {statistics.median(found):.2f} | {min(found):.2f} | {max(found):.2f} |")


def once(runs: int) -> dict[str, float]:
    """Seconds of each command on a new sweep."""
    with tempfile.TemporaryDirectory(prefix="dcp-") as folder:
        sweep = Path(folder, "sweep")
        for name, text in {"sbatch": "echo Submitted batch job 7", "srun": "", "sacct": "", "squeue": ""}.items():
            program(folder, name, text)
        asked = (f"--seeds=0-{runs - 1}", "--profile=cpu", "--set=shared_tmp=true")
        found = {name: seconds(folder, name, str(sweep), *asked) for name in ("plan", "submit")}
        lines = [json.loads(line) for line in (sweep / "submissions.jsonl").read_text().splitlines()]
        states = ["RUNNING" if number % 2 else "FAILED" for number in range(runs)]
        jobs = "\n".join(f"7_{number}|{lines[0]['name']}|{state}|None|n1" for number, state in enumerate(states))
        program(folder, "squeue", f"cat <<end\n{jobs}\nend")
        for line in (sweep / "runs.jsonl").read_text().splitlines():
            told = {"stage": "train", "epoch": 2, "epochs": 9}
            Path(json.loads(line)["run_dir"], "progress.json").write_text(json.dumps(told))
        return found | {"status": seconds(folder, "status", str(sweep))}


def seconds(folder: str, *words: str) -> float:
    """Of one command."""
    surroundings = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    began = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "cluster.slurm", *words], env=surroundings, stdout=subprocess.DEVNULL, check=True
    )
    return time.monotonic() - began


def program(folder: str, name: str, text: str) -> None:
    """Put a program on the commands' PATH."""
    Path(folder, name).write_text(f"#!/bin/sh\n{text}\n")
    Path(folder, name).chmod(0o755)


if __name__ == "__main__":
    main()
