"""The cost of a sweep of many runs on the login node: `python benchmarks/slurm_plan.py --runs 500 --rounds 3`.

Seconds of complete commands, imports included: plan, submit (manifest, claims and submitit's files), and status while
half of the runs train and half have failed. Stub programs replace SLURM's, so its own time is not included. Times are
median, minimum and maximum of the rounds.
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
    args = arguments.parse_args()
    print(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    rounds = [time_commands(args.runs) for _ in range(args.rounds)]
    print(f"\n| command, {args.runs} runs | s | min | max |\n|---|---|---|---|")
    for name in rounds[0]:
        times = [seconds[name] for seconds in rounds]
        print(f"| {name} | {statistics.median(times):.2f} | {min(times):.2f} | {max(times):.2f} |")


def time_commands(runs: int) -> dict[str, float]:
    """Seconds of each command on a new sweep."""
    with tempfile.TemporaryDirectory(prefix="dcp-") as folder:
        sweep = Path(folder, "sweep")
        for name, text in {"sbatch": "echo Submitted batch job 7", "srun": "", "sacct": "", "squeue": ""}.items():
            write_program(folder, name, text)
        options = (f"--seeds=0-{runs - 1}", "--profile=cpu", "--set=shared_tmp=true")
        times = {name: time_command(folder, name, str(sweep), *options) for name in ("plan", "submit")}
        lines = [json.loads(line) for line in (sweep / "submissions.jsonl").read_text().splitlines()]
        states = ["RUNNING" if number % 2 else "FAILED" for number in range(runs)]
        jobs = "\n".join(f"7_{number}|{lines[0]['name']}|{state}|None|n1" for number, state in enumerate(states))
        write_program(folder, "squeue", f"cat <<end\n{jobs}\nend")
        for line in (sweep / "runs.jsonl").read_text().splitlines():
            progress = {"stage": "train", "epoch": 2, "epochs": 9}
            Path(json.loads(line)["run_dir"], "progress.json").write_text(json.dumps(progress))
        return times | {"status": time_command(folder, "status", str(sweep))}


def time_command(folder: str, *arguments: str) -> float:
    """Seconds of one command."""
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "cluster.slurm", *arguments], env=environment, stdout=subprocess.DEVNULL, check=True
    )
    return time.monotonic() - start


def write_program(folder: str, name: str, text: str) -> None:
    """Write a stub program to the folder that is first on PATH."""
    Path(folder, name).write_text(f"#!/bin/sh\n{text}\n")
    Path(folder, name).chmod(0o755)


if __name__ == "__main__":
    main()
