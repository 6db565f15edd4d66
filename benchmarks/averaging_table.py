"""PGD-AT on CIFAR-10 with ResNet-20, with and without weight averaging at equal budget, as one table.

    python benchmarks/averaging_table.py ~/cifar10 --run-root runs/averaging --write docs/reports/averaging.md

Averaging does not affect the training, so every run gives both: its last weights and their average. The runs take ten
epochs of 6,000 images with a learning rate that falls to zero, and five with a constant one. Existing runs are reused,
so the command can be stopped and repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

from distcond.config.overrides import resolve
from distcond.config.schema import Config
from distcond.launch import driver
from distcond.results.row import Row, accuracy
from distcond.results.store import read_rows
from distcond.train import resolve_run

DECAY = 0.99  # over the last 100 of 460 or 230 steps
SCHEDULES = {"onecycle": {"epochs": 10, "optim.lr": 0.1}, "constant": {"epochs": 5, "optim.lr": 0.05}}


def main() -> None:
    """Train the missing runs, then print (and write) the table."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("root", help="the CIFAR-10 folder (data.root)")
    arguments.add_argument("--run-root", default="runs/averaging", help="folder of the runs")
    arguments.add_argument("--seeds", type=int, default=2, help="runs per schedule")
    arguments.add_argument("--write", help="a Markdown file to write the table to")
    args = arguments.parse_args()
    lines = [
        "| learning rate | weights | SA % (seeds) | RA % (seeds) | RA % of the best validation checkpoint |",
        "|---|---|---|---|---|",
    ]
    for schedule in SCHEDULES:
        runs = [test_rows(run_config(schedule, seed, args.root, args.run_root)) for seed in range(args.seeds)]
        lines += [table_line(schedule, "as trained", "last_raw", runs)]
        lines += [table_line(schedule, "averaged", "last", runs)]
    print("\n".join(lines))
    if args.write:
        Path(args.write).write_text("\n".join(lines) + "\n")


def run_config(schedule: str, seed: int, root: str, run_root: str) -> Config:
    """The config of one run."""
    settings: dict[str, Any] = {
        "method": "pgd_at", "sampler.lam": 1.0, "model": "resnet20", "data": "cifar10", "data.root": root,
        "run_root": run_root, "launch": "local", "seed": seed, "train_examples": 6000, "batch_size": 128,
        "optim.schedule": schedule, "optim.averaging": DECAY, **SCHEDULES[schedule],
        "attack.epsilon": "8/255", "attack.step_size": "2/255", "attack.num_steps": 7,
        "eval.attack.epsilon": "8/255", "eval.attack.step_size": "2/255", "eval.attack.num_steps": 20,
        "eval.test_examples": 2000, "eval.train_examples": 0, "eval.val_examples": 500, "eval.every": 5,
        "eval.batch_size": 250,
    }  # fmt: skip
    return resolve("float_digits", settings)


def test_rows(config: Config) -> list[Row]:
    """The test rows of a run, which is trained if it does not exist."""
    run = resolve_run(config, None)
    if not run.finished:
        print(f"{config.optim.schedule}, seed {config.seed}", flush=True)
        with run.begin(config) as attempt:
            driver.launch(config, run.path, attempt)
    return [row for row in read_rows(run.path) if row.split == "test"]


def table_line(schedule: str, weights: str, which: str, runs: list[list[Row]]) -> str:
    """One line of the table: the mean over seeds, and every seed."""
    best = "" if which == "last_raw" else accuracy_cell(runs, "best", "pgd")
    cells = schedule, weights, accuracy_cell(runs, which, "none"), accuracy_cell(runs, which, "pgd"), best
    return f"| {' | '.join(cells)} |"


def accuracy_cell(runs: list[list[Row]], which: str, attack: str) -> str:
    """Accuracies in %: "41.2 (41.0, 41.4)"."""
    values = [100 * accuracy(r) for rows in runs for r in rows if (r.checkpoint, r.attack) == (which, attack)]
    return f"{mean(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})"


if __name__ == "__main__":
    main()
