"""The overhead of a trial over its run: `python benchmarks/sweep_overhead.py FOLDER [REPEATS]`, on an idle machine.

On one Ray the same two-worker run is trained by the driver of `distcond.train` and as the only trial of a sweep,
interleaved. It prints the seconds of each and their difference.
"""

from __future__ import annotations

import logging
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

from distcond.launch import driver
from distcond.launch.ray.cluster import ray_cluster
from distcond.tuning.options import SweepOptions
from distcond.tuning.ray_backend.tuner import run_sweep
from distcond.tuning.space import Space
from distcond.tuning.sweep_dir import SweepDir
from distcond.tuning.trial_config import run_of, settle

SETTINGS = {
    "launch.workers": 2, "epochs": 2, "train_examples": 512, "eval.every": 1, "eval.val_examples": 90,
    "eval.test_examples": 90, "eval.train_examples": 0, "eval.lam_grid": "0,1", "eval.sentinel": "off",
}  # fmt: skip


def main(folder: Path, repeats: int) -> None:
    """Measure both, interleaved, and print."""
    logging.basicConfig(level=logging.WARNING)
    space = Space("overhead", "?", "float_digits", 1, fixed=SETTINGS)
    plain, sweep = [], []
    with ray_cluster():
        for number in range(repeats + 1):
            plain.append(_run(space, folder / f"run-{number}", number))
            sweep.append(_sweep(space, folder / f"sweep-{number}", number))
            print(f"{number}: run {plain[-1]:.1f} s, sweep {sweep[-1]:.1f} s", flush=True)
    # The first of each also converts images and fills caches.
    more = [b - a for a, b in zip(plain[1:], sweep[1:], strict=True)]
    print(
        f"a trial costs {statistics.median(more):.1f} s more (median of {repeats}, {min(more):.1f} to {max(more):.1f})"
    )


def _run(space: Space, root: Path, seed: int) -> float:
    began, config = time.monotonic(), settle(space.config({"run_root": str(root), "seed": seed}))
    run = run_of(config)
    with run.begin(config) as attempt:
        driver.launch(config, run.path, attempt)
    return time.monotonic() - began


def _sweep(space: Space, path: Path, seed: int) -> float:
    began = time.monotonic()
    run_sweep(SweepDir(path), replace(space, fixed={**space.fixed, "seed": seed}), SweepOptions(), [{"seed": seed}])
    return time.monotonic() - began


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
