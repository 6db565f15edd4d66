"""Trains several methods over seeds and attacks them along each dial; prints tables.

    python benchmarks/dial_evidence.py --run-root runs/dial --write docs/reports/dial_digits
    python benchmarks/dial_evidence.py --data cifar10 --root CIFAR10 --seeds 1 --epochs 12 --restarts 1 \
        --methods "FLOAT,dual BN,pair,pair apart,TRADES" --run-root runs/dial --set train_examples=20000

Each method is trained by its recipe for the data with one process, and its best checkpoint is attacked along its dial
by white-box PGD-20: as the papers' switch, as a blend of weights, and as a blend of outputs. Rivals are pairs of a
standard and a PGD-AT run ("pair": the second starts from the first; "pair apart": both start at random), and TRADES
over beta. Dedicated runs train for half of the epochs: at PGD-7 a pair then costs as much as one network with two
paths, 10 forward-equivalents an image and epoch. With --autoattack methods are attacked by the standard ensemble, too,
at t 0, 0.5 and 1 of seed 0. Existing results are reused: the command can be stopped at any time, ends by itself after
--minutes, and resumes when repeated.
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

from distcond import evaluate, pair
from distcond.config.overrides import resolve
from distcond.config.schema import Config
from distcond.init_from.initialise import check_init_from
from distcond.launch import driver
from distcond.results.pareto import area
from distcond.results.row import Row, accuracy
from distcond.results.store import read_rows
from distcond.runs.run_dir import RunDir
from distcond.train import resolve_run

#: Name to method and settings. SMART with all weights kept has two normalisations and nothing else.
TWO_PATHS: dict[str, tuple[str, dict[str, Any]]] = {
    "FLOAT": ("float", {}),
    "OAT": ("oat", {}),
    "SMART": ("smart", {}),
    "dual BN": ("smart", {"method.density": 1}),
}
#: Pairs of a standard and a PGD-AT run, and whether the second starts from the first.
PAIRS = {"pair": True, "pair apart": False}
BETAS = (1, 3, 6)
METHODS = (*TWO_PATHS, *PAIRS, "TRADES")
SUFFIX = {"digits": "digits", "cifar10": "cifar10_resnet20"}
STRONG = ("attack=autoattack", "eval.dial_grid=0,0.5,1")


class Curve(NamedTuple):
    """SA and RA in % of one method under one rule, (seeds, positions)."""

    positions: np.ndarray
    sa: np.ndarray
    ra: np.ndarray


class Job(NamedTuple):
    """One command: a training, a pair, or an evaluation along a rule's dial."""

    method: str
    seed: int
    settings: tuple[str, ...] = ()


def main() -> None:
    """Run the missing jobs within the time limit, then print and write the tables."""
    args = _parse_args()
    torch.set_num_threads(1)
    evidence, end = Evidence(args), time.monotonic() + 60 * args.minutes
    for job in evidence.jobs():
        if time.monotonic() > end:
            print(f"{args.minutes:g} minutes are over; the same command resumes")
            return
        evidence.run(job)
    text, plain = evidence.tables(), evidence.numbers()
    print(text)
    if args.write:
        Path(args.write).mkdir(parents=True, exist_ok=True)
        (Path(args.write) / "tables.md").write_text(text + "\n")
        (Path(args.write) / "numbers.json").write_text(json.dumps(plain, indent=1) + "\n")


def _parse_args() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", default="digits", choices=SUFFIX, help="recipes of which data")
    arguments.add_argument("--root", default="", help="data.root")
    arguments.add_argument("--run-root", default="runs/dial", help="folder of the runs")
    arguments.add_argument("--seeds", type=int, default=5, help="runs per method")
    arguments.add_argument(
        "--epochs", type=int, default=30, help="of networks with two paths; dedicated ones take half"
    )
    arguments.add_argument("--restarts", type=int, default=3, help="of the attack")
    arguments.add_argument("--methods", default=",".join(TWO_PATHS), help=f"comma-separated: {', '.join(METHODS)}")
    arguments.add_argument("--autoattack", default="", help="methods to attack with AutoAttack, comma-separated")
    arguments.add_argument("--set", nargs="*", default=[], help="further settings of every run, PATH=VALUE")
    arguments.add_argument("--minutes", type=float, default=100, help="start nothing new after this time")
    arguments.add_argument("--write", help="a folder to write the tables and numbers to")
    args = arguments.parse_args()
    unknown = {name for name in f"{args.methods},{args.autoattack}".split(",") if name} - set(METHODS)
    if unknown:
        arguments.error(f"--methods: unknown {', '.join(sorted(unknown))}; valid: {', '.join(METHODS)}")
    return args


def rules(method: str) -> tuple[str, ...]:
    """The dials of a method; TRADES has none: its curve is over beta."""
    if method == "TRADES":
        return ("beta",)
    return ("weights", "outputs", "mixednuts") if method in PAIRS else ("switch", "weights", "outputs")


class Evidence:
    """What is trained and counted, by the arguments of the command."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.methods = args, args.methods.split(",")

    def jobs(self) -> Iterator[Job]:
        """All jobs: all methods of one seed before the next seed."""
        attack = (f"eval.attack.restarts={self.args.restarts}",)
        for seed in range(self.args.seeds):
            for method in self.methods:
                yield Job(method, seed)
                dials = () if method == "TRADES" else rules(method)
                yield from (Job(method, seed, (f"eval.dial={rule}", *attack)) for rule in dials)
        for method in filter(None, self.args.autoattack.split(",")):
            yield Job(method, 0, ("eval.dial=outputs" if method in PAIRS else "eval.dial=weights", *STRONG))

    def run(self, job: Job) -> None:
        """Do a job, unless it is done."""
        if not job.settings:
            for run, config in self.trained(job.method, job.seed):
                if not run.finished:
                    print(f"{run.path}", flush=True)
                    with run.begin(config) as attempt:
                        driver.launch(config, run.path, attempt)
                if job.method == "TRADES":
                    self._evaluate(run.path, f"eval.attack.restarts={self.args.restarts}")
            return
        path = self.path(job.method, job.seed)
        if job.method in PAIRS:
            runs = [str(run.path) for run, _ in self.trained(job.method, job.seed)]
            rest = [setting for setting in job.settings if not setting.startswith("eval.dial=")]
            self._quiet(pair.main, [*runs, f"mix={_rule(job)}", f"run_root={self.args.run_root}", *rest, *self._few()])
        else:
            self._evaluate(path, *job.settings)

    def _few(self) -> tuple[str, ...]:
        return "eval.sentinel=off", "launch.workers=1"

    def _evaluate(self, path: Path, *settings: str) -> None:
        self._quiet(evaluate.main, [str(path), *settings, *self._few()])

    def _quiet(self, command: Any, argv: list[str]) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            assert command(argv) == 0, argv

    def trained(self, method: str, seed: int) -> Iterator[tuple[RunDir, Config]]:
        """The runs that a method trains, in order."""
        half = {"epochs": self.args.epochs // 2}
        if method in TWO_PATHS:
            name, settings = TWO_PATHS[method]
            yield self._run(name, seed, {**settings, "epochs": self.args.epochs, "eval.dial": "weights"})
        elif method == "TRADES":
            yield from (self._run("trades", seed, {**half, "method.beta": beta}) for beta in BETAS)
        else:
            standard = self._run("standard", seed, half)
            yield standard
            start = {"init_from": str(standard[0].path)} if PAIRS[method] else {}
            yield self._run("pgd_at", seed, {**half, **start})

    def _run(self, name: str, seed: int, settings: dict[str, Any]) -> tuple[RunDir, Config]:
        own = dict(setting.split("=", 1) for setting in self.args.set)
        fixed = {
            "launch": "local", "launch.workers": 1, "eval.train_examples": 0, "run_root": self.args.run_root,
            **({"data.root": self.args.root} if self.args.root else {}),
        }  # fmt: skip
        config = resolve(f"{name}_{SUFFIX[self.args.data]}", {**settings, **fixed, **own, "seed": seed})
        return resolve_run(config, check_init_from(config)), config

    def path(self, method: str, seed: int) -> Path:
        """The run directory whose rows are a curve of a method with a dial."""
        runs = [run.path for run, _ in self.trained(method, seed)]
        if method in TWO_PATHS:
            return runs[0]
        names = [path.name for path in runs]
        for record in Path(self.args.run_root).glob("pair-*/pair.json"):
            found = json.loads(record.read_text())
            if [found["standard"]["run"], found["robust"]["run"]] == names:
                return record.parent
        return Path()  # not made yet

    def curve(self, method: str, rule: str) -> Curve:
        """The best checkpoints of all seeds on test, under PGD-20."""
        by_seed = [self._points(method, seed, rule) for seed in range(self.args.seeds)]
        positions = sorted(set.intersection(*map(set, by_seed)))
        values = 100 * np.array([[points[position] for position in positions] for points in by_seed])
        return Curve(np.array(positions), values[..., 0], values[..., 1])

    def _points(self, method: str, seed: int, rule: str) -> dict[float, tuple[float, float]]:
        """Position to (SA, RA)."""
        if rule != "beta":
            return self._accuracies(self.path(method, seed), "" if rule == "switch" else rule)
        points = [self._accuracies(run.path, "") for run, _ in self.trained(method, seed)]
        return {float(beta): next(iter(at.values())) for beta, at in zip(BETAS, points, strict=True)}

    def _accuracies(self, path: Path, blend: str) -> dict[float, tuple[float, float]]:
        rows = [row for row in read_rows(path) if (row.split, row.checkpoint, row.blend) == ("test", "best", blend)]
        clean = {_position(row): accuracy(row) for row in rows if row.attack == "none"}
        asked = ("pgd", self.args.restarts)
        robust = {_position(row): accuracy(row) for row in rows if (row.attack, row.restarts) == asked}
        return {position: (clean[position], robust[position]) for position in robust}

    def tables(self) -> str:
        """One table per method and rule, one of hypervolumes, and AutoAttack's counts."""
        pairs = [(method, rule) for method in self.methods for rule in rules(method)]
        parts = [_table(f"{method}, {rule}", self.curve(method, rule)) for method, rule in pairs]
        lines = ["**Hypervolume** of (SA, RA) above 0, in %", "", "| method | dial | hypervolume |", "|---|---|---|"]
        for method, rule in pairs:
            lines.append(f"| {method} | {rule} | {_cell(_hypervolumes(self.curve(method, rule)))} |")
        return "\n\n".join([*parts, "\n".join(lines), *self._strong()])

    def _strong(self) -> Iterator[str]:
        for method in filter(None, self.args.autoattack.split(",")):
            rows = sorted((row for row in read_rows(self.path(method, 0)) if row.attack == "autoattack"), key=_position)
            counts = [f"t {_position(row):g}: {row.num_correct} of {row.num_examples}" for row in rows]
            yield f"AutoAttack, {method}, seed 0, {rows[0].blend}: {', '.join(counts)}"

    def numbers(self) -> dict[str, Any]:
        """SA and RA in % of every seed, for further analysis."""
        plain = {}
        for method in self.methods:
            for rule in rules(method):
                curve = self.curve(method, rule)
                values = {"position": curve.positions, "sa": curve.sa, "ra": curve.ra}
                plain[f"{method}, {rule}"] = {key: value.round(3).tolist() for key, value in values.items()}
        return plain


def _rule(job: Job) -> str:
    return next(setting for setting in job.settings if setting.startswith("eval.dial=")).partition("=")[2]


def _position(row: Row) -> float:
    return row.blend_t if row.blend else row.lam


def mean_with_interval(values: np.ndarray) -> tuple[float, float]:
    """The mean over seeds and half of its 95 % interval (Student's t); nan for one seed."""
    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else float("nan")
    return float(values.mean()), float(half)


def _table(title: str, curve: Curve) -> str:
    lines = [f"**{title}**", "", "| position | SA % | RA % | RA above the last position |", "|---|---|---|---|"]
    for index, position in enumerate(curve.positions):
        sa, ra = (_cell(values[:, index]) for values in (curve.sa, curve.ra))
        step = curve.ra[:, index] - curve.ra[:, index - 1]
        lines.append(f"| {position:g} | {sa} | {ra} | {_step(step) if index else ''} |")
    return "\n".join(lines)


def _cell(values: np.ndarray) -> str:
    mean, half = mean_with_interval(values)
    return f"{mean:.2f}" if np.isnan(half) else f"{mean:.2f} ± {half:.2f}"


def _step(values: np.ndarray) -> str:
    mean, half = mean_with_interval(values)
    return f"{mean:+.2f}" if np.isnan(half) else f"{mean:+.2f} ± {half:.2f}" + " (0 is inside)" * (abs(mean) <= half)


def _hypervolumes(curve: Curve) -> np.ndarray:
    """The hypervolume of every seed in %."""
    pairs = zip(curve.sa / 100, curve.ra / 100, strict=True)
    return 100 * np.array([area(list(zip(sa, ra, strict=True))) for sa, ra in pairs])


if __name__ == "__main__":
    main()
