"""ASHA against random search at the same counted work: `python benchmarks/asha_table.py FOLDER [SEEDS]`.

Both search the space noise_scale at its small budget. Per seed of the search ASHA takes its 16 trials (grace=1,
reduction=2); random search then trains complete runs of other draws until it has spent as many training FLOPs. The best
trial of each by the hypervolume on validation is compared on the test split (PGD-20). Segments are trained in this
process by the same `fit` and the same decisions as in a sweep on Ray.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from distcond.config.overrides import to_settings
from distcond.distributed.world import World
from distcond.results.store import read_rows
from distcond.runs.attempts import set_epoch_limit
from distcond.runs.run_dir import RunDir
from distcond.training.fit import fit
from distcond.tuning.course import Course
from distcond.tuning.objective import read_objective
from distcond.tuning.proposers import Random
from distcond.tuning.ray_backend.leg import Order
from distcond.tuning.ray_backend.sweep import base, placed, scheduled
from distcond.tuning.space import Space, find_space
from distcond.tuning.sweep_dir import SweepDir
from distcond.tuning.trial import Leg, Trial
from distcond.tuning.verdict import counted
from distcond.tuning.words import Words

TRIALS = 16
#: Offset of the seeds of random search, so that it draws other trials than ASHA.
OTHER = 1_000_000


class Found(NamedTuple):
    """What a search came to."""

    trials: int
    whole: int
    epochs: int
    flops: float
    val: float
    test: float
    seconds: float


def main(folder: Path, seeds: int) -> None:
    """Search with both, seed by seed, and print the table."""
    torch.set_num_threads(1)
    space, found = find_space("noise_scale", small=True), dict[str, list[Found]]()
    print("| search seed | search | trials | complete runs | epochs | training FLOPs | val | test | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for seed in range(seeds):
        asha = search(folder / f"asha-{seed}", space, seed, "asha", None)
        rival = search(folder / f"random-{seed}", space, seed + OTHER, "none", asha.flops)
        for name, one in (("ASHA", asha), ("random", rival)):
            found.setdefault(name, []).append(one)
            numbers = f"{one.trials} | {one.whole} | {one.epochs} | {one.flops:.3g} | {one.val:.4f} | {one.test:.4f}"
            print(f"| {seed} | {name} | {numbers} | {one.seconds:.0f} |", flush=True)
    for name, of in found.items():
        tests = [one.test for one in of]
        spread = statistics.stdev(tests) if len(tests) > 1 else 0.0
        print(f"{name}: test {statistics.mean(tests):.4f} +- {spread:.4f} over {seeds} seeds")


def search(folder: Path, space: Space, seed: int, scheduler: str, budget: float | None) -> Found:
    """Search until the course is over, or as many FLOPs are spent."""
    words, began = Words(scheduler=scheduler, reduction=2, trials=TRIALS), time.monotonic()  # type: ignore[arg-type]
    config = base(space)
    objective = read_objective("hypervolume", config)
    sweep = SweepDir(folder)
    schedule = scheduled(space, words, config, objective)
    course = Course(sweep, space, Random(space, seed), TRIALS, 0, schedule, placed, _never)
    while (budget is None or _spent(course) < budget) and (leg := course.next()) is not None:
        train(course, leg, [list(objective)])
    whole = [trial for trial in course.trials.values() if trial.state == "finished"]
    best = max(whole, key=lambda trial: trial.values[0])
    rows = [row for row in read_rows(folder / best.run) if (row.split, row.checkpoint) == ("test", "best")]
    epochs = sum(trial.epochs for trial in course.trials.values())
    test, seconds = counted(objective, rows, (0.0, 0.0)), time.monotonic() - began
    return Found(len(course.trials), len(whole), epochs, _spent(course), best.values[0], test, seconds)


def train(course: Course, leg: Leg, objectives: list[list[Any]]) -> None:
    """Train a leg in this process."""
    config, run = course.config(leg.number), RunDir(course.sweep.path / course.trials[leg.number].run)
    with run.begin(config) as attempt:
        set_epoch_limit(run.path, leg.until)
        fit(config, World(), run.path, attempt)
    order = Order(to_settings(config), str(run.path), leg.until, objectives, [0.0, 0.0], 0.0)
    course.ended(leg, order.told(run))


def _spent(course: Course) -> float:
    return sum(trial.flops for trial in course.trials.values())


def _never(trials: dict[int, Trial], exploit: Any) -> Trial:
    raise AssertionError("nobody exploits here")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
