"""Trains several methods over seeds and attacks them along each dial; prints tables.

    python benchmarks/dial_evidence.py --run-root runs/dial --write docs/reports/dial_digits

Each method is trained by its recipe for the digits with one process, and its best checkpoint is attacked along its dial
by white-box PGD-20 with three restarts: as the papers' switch, as a blend of weights, and as a blend of outputs. With
--autoattack three methods are attacked by the standard ensemble, too, at t 0, 0.5 and 1 of one seed. Existing
results are reused: the command can be stopped at any time, ends by itself after --minutes, and resumes when repeated.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy import stats

from distcond import evaluate
from distcond.config.overrides import resolve
from distcond.config.schema import Config
from distcond.launch import driver
from distcond.results.pareto import area
from distcond.results.row import Row, accuracy
from distcond.results.store import read_rows
from distcond.runs.run_dir import RunDir
from distcond.train import resolve_run

#: Name to recipe and settings. SMART with all weights kept has two normalisations and nothing else.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "FLOAT": ("float_digits", {}),
    "OAT": ("oat_digits", {}),
    "SMART": ("smart_digits", {}),
    "dual BN": ("smart_digits", {"method.density": 1}),
}
#: Rule to the settings of an evaluation.
RULES = {
    "switch": ("eval.dial=switch",),
    "weights": ("eval.dial=weights",),
    "outputs": ("eval.dial=outputs",),
}
ATTACK = ("eval.attack.restarts=3", "eval.sentinel=off", "launch.workers=1")
STRONG = ("attack=autoattack", "eval.dial=weights", "eval.dial_grid=0,0.5,1", "eval.sentinel=off", "launch.workers=1")


class Job(NamedTuple):
    """One run to train (without settings) or to evaluate."""

    config: Config
    settings: tuple[str, ...] = ()


class Curve(NamedTuple):
    """SA and RA in % of one method under one rule, (seeds, positions)."""

    positions: np.ndarray
    sa: np.ndarray
    ra: np.ndarray


def main() -> None:
    """Run the missing jobs within the time limit, then print and write the tables."""
    args = _parse_args()
    torch.set_num_threads(1)  # networks here are tiny
    configs = {name: [run_config(name, seed, args) for seed in range(args.seeds)] for name in args.methods.split(",")}
    end = time.monotonic() + 60 * args.minutes
    for job in list_jobs(configs, args.autoattack):
        if time.monotonic() > end:
            print(f"{args.minutes:g} minutes are over; the same command resumes")
            return
        run_job(job)
    text, plain = format_tables(configs), collect_numbers(configs)
    print(text)
    if args.write:
        Path(args.write).mkdir(parents=True, exist_ok=True)
        (Path(args.write) / "tables.md").write_text(text + "\n")
        (Path(args.write) / "numbers.json").write_text(json.dumps(plain, indent=1) + "\n")


def _parse_args() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--run-root", default="runs/dial", help="folder of the runs")
    arguments.add_argument("--seeds", type=int, default=5, help="runs per method")
    arguments.add_argument("--methods", default=",".join(METHODS), help="names, comma-separated")
    arguments.add_argument("--autoattack", default="", help="methods to attack with AutoAttack, comma-separated")
    arguments.add_argument("--set", nargs="*", default=[], help="further settings of every run, PATH=VALUE")
    arguments.add_argument("--minutes", type=float, default=100, help="start nothing new after this time")
    arguments.add_argument("--write", help="a folder to write the tables and numbers to")
    return arguments.parse_args()


def run_config(method: str, seed: int, args: argparse.Namespace) -> Config:
    """The config of one run."""
    recipe, settings = METHODS[method]
    own = dict(setting.split("=", 1) for setting in args.set)
    fixed = {"launch": "local", "launch.workers": 1, "eval.train_examples": 0, "run_root": args.run_root}
    return resolve(recipe, {**settings, **fixed, **own, "seed": seed})


def list_jobs(configs: dict[str, list[Config]], strong: str) -> Iterator[Job]:
    """All jobs: all methods of one seed before the next seed."""
    for of_seed in zip(*configs.values(), strict=True):
        for config in of_seed:
            yield Job(config)
            yield from (Job(config, (*rule, *ATTACK)) for rule in RULES.values())
    yield from (Job(configs[name][0], STRONG) for name in filter(None, strong.split(",")))


def run_job(job: Job) -> None:
    """Train or evaluate a run, unless it is done."""
    run = resolve_run(job.config, None)
    if job.settings:
        with contextlib.redirect_stdout(io.StringIO()):
            assert evaluate.main([str(run.path), *job.settings]) == 0
    elif not run.finished:
        print(f"{run.path}", flush=True)
        with run.begin(job.config) as attempt:
            driver.launch(job.config, run.path, attempt)


def read_curve(configs: list[Config], rule: str) -> Curve:
    """The best checkpoints of all seeds on test, under PGD-20 with three restarts."""
    by_seed = [_points(resolve_run(config, None), rule) for config in configs]
    positions = sorted(by_seed[0])
    values = 100 * np.array([[points[position] for position in positions] for points in by_seed])
    return Curve(np.array(positions), values[..., 0], values[..., 1])


def _points(run: RunDir, rule: str) -> dict[float, tuple[float, float]]:
    """Position to (SA, RA)."""
    blend = "" if rule == "switch" else rule
    rows = [row for row in read_rows(run.path) if (row.split, row.checkpoint, row.blend) == ("test", "best", blend)]
    clean = {_position(row): accuracy(row) for row in rows if row.attack == "none"}
    robust = {_position(row): accuracy(row) for row in rows if row.attack == "pgd" and row.restarts == 3}
    return {position: (clean[position], robust[position]) for position in robust}


def _position(row: Row) -> float:
    return row.blend_t if row.blend else row.lam


def mean_with_interval(values: np.ndarray) -> tuple[float, float]:
    """The mean over seeds and half of its 95 % interval (Student's t)."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else float("nan")
    return float(values.mean()), float(half)


def format_tables(configs: dict[str, list[Config]]) -> str:
    """One table per method and rule, and one of hypervolumes."""
    parts = [
        _table(f"{name}, {rule}", read_curve(of_method, rule)) for name, of_method in configs.items() for rule in RULES
    ]
    return "\n\n".join([*parts, _volumes(configs), *_strong_tables(configs)])


def _table(title: str, curve: Curve) -> str:
    lines = [f"**{title}**", "", "| position | SA % | RA % | RA above the last position |", "|---|---|---|---|"]
    for index, position in enumerate(curve.positions):
        sa, ra = (_cell(values[:, index]) for values in (curve.sa, curve.ra))
        step = curve.ra[:, index] - curve.ra[:, index - 1]
        lines.append(f"| {position:g} | {sa} | {ra} | {_step(step) if index else ''} |")
    return "\n".join(lines)


def _cell(values: np.ndarray) -> str:
    mean, half = mean_with_interval(values)
    return f"{mean:.2f} ± {half:.2f}"


def _step(values: np.ndarray) -> str:
    mean, half = mean_with_interval(values)
    return f"{mean:+.2f} ± {half:.2f}" + ("" if abs(mean) > half else " (0 is inside)")


def _volumes(configs: dict[str, list[Config]]) -> str:
    lines = [
        "**Hypervolume** of (SA, RA) above 0, in %",
        "",
        "| method | " + " | ".join(RULES) + " |",
        "|---" * 4 + "|",
    ]
    for name, of_method in configs.items():
        cells = [_cell(_hypervolumes(read_curve(of_method, rule))) for rule in RULES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _hypervolumes(curve: Curve) -> np.ndarray:
    """The hypervolume of every seed in %."""
    pairs = zip(curve.sa / 100, curve.ra / 100, strict=True)
    return 100 * np.array([area(list(zip(sa, ra, strict=True))) for sa, ra in pairs])


def _strong_tables(configs: dict[str, list[Config]]) -> Iterator[str]:
    for name, of_method in configs.items():
        rows = [row for row in read_rows(resolve_run(of_method[0], None).path) if row.attack == "autoattack"]
        if rows:
            counts = [f"t {row.blend_t:g}: {row.num_correct} of {row.num_examples}" for row in rows]
            yield f"AutoAttack, {name}, seed {of_method[0].seed}, weights: {', '.join(sorted(counts))}"


def collect_numbers(configs: dict[str, list[Config]]) -> dict[str, Any]:
    """SA and RA in % of every seed, for further analysis."""
    plain = {}
    for name, of_method in configs.items():
        for rule in RULES:
            curve = read_curve(of_method, rule)
            values = {"position": curve.positions, "sa": curve.sa, "ra": curve.ra}
            plain[f"{name}, {rule}"] = {key: value.round(3).tolist() for key, value in values.items()}
    return plain


if __name__ == "__main__":
    main()
