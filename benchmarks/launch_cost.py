"""The cost of Ray Train relative to `launch=local`, and of a checkpoint every 100 steps; interleaved ratios.

    python benchmarks/launch_cost.py --rounds 5

The same run of two CPU workers, interleaved: torchrun, torchrun saving every 100 steps, Ray Train. A time is the median
over the rounds of a run's median epoch (without the first one), with the range; a ratio is the median of the ratios per
round. Ray's CPU seconds are those of its processes other than driver and workers, per second of the run.
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

SETTINGS = (
    "float_digits", "batch_size=8", "epochs=4", "attack.num_steps=3", "eval.every=0", "eval.lam_grid=0,1",
    "eval.test_examples=32", "eval.train_examples=0", "eval.sentinel=off", "save_every=1000", "save_minutes=0",
    "data.loader=memory",
)  # fmt: skip
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")
VARIANTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "torchrun": (TORCHRUN, ("launch=local",)),
    "torchrun, saving every 100 steps": (TORCHRUN, ("launch=local", "save_steps=100")),
    "Ray Train": (("-m",), ("launch=ray", "launch.workers=2")),
}
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the rounds and print the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=5)
    rounds = arguments.parse_args().rounds
    print(f"load average before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores", flush=True)
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    shares = []
    for number in range(rounds):
        for name in VARIANTS:
            epoch, share = time_run(name)
            seconds[name].append(epoch)
            shares += [share] if name == "Ray Train" else []
            print(f"round {number + 1}, {name}: {epoch:.3f} s an epoch", flush=True)
    print("\n| variant | epoch s (range) | ratio to torchrun (range) |\n|---|---|---|")
    for name, times in seconds.items():
        ratios = [mine / base for mine, base in zip(times, seconds["torchrun"], strict=True)]
        print(f"| {name} | {_spread(times)} | {_spread(ratios)} |")
    print(f"\nRay's own processes: {_spread(shares)} CPU seconds per second")


def time_run(name: str) -> tuple[float, float]:
    """One run: its median epoch in seconds, and CPU seconds per second of all processes but driver and workers."""
    before, settings = VARIANTS[name]
    with tempfile.TemporaryDirectory(prefix="dcl-", dir="/tmp") as folder:
        command = [sys.executable, *before, "distcond.train", *SETTINGS, *settings, f"run_root={folder}/runs"]
        environment = {**os.environ, "TMPDIR": folder, "OMP_NUM_THREADS": "1"}
        run = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        used: dict[int, tuple[str, float]] = {}
        start = time.monotonic()
        while run.poll() is None:
            used |= cpu_seconds(f"TMPDIR={folder}".encode())
            time.sleep(0.5)
        duration = time.monotonic() - start
        assert run.returncode == 0, run.stderr.read() if run.stderr else ""
        [path] = Path(folder, "runs").iterdir()
        records = [json.loads(line) for line in (path / "history.jsonl").read_text().splitlines()]
    other = sum(spent for process, (title, spent) in used.items() if process != run.pid and "RayTrain" not in title)
    return statistics.median(record["seconds"] for record in records[1:]), other / duration


def cpu_seconds(variable: bytes) -> dict[int, tuple[str, float]]:
    """Name and CPU seconds so far of all processes with `variable` in their environment, by process ID."""
    usage = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and variable in (entry / "environ").read_bytes().split(b"\0"):
                title, rest = (entry / "stat").read_text().split("(", 1)[1].rsplit(") ", 1)
                fields = rest.split()
                usage[int(entry.name)] = title, (int(fields[11]) + int(fields[12])) / TICKS
        except OSError:
            continue
    return usage


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} ({min(values):.3f}-{max(values):.3f})"


if __name__ == "__main__":
    main()
