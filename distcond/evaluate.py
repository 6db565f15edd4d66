"""Measure clean and robust accuracy of a run: `python -m distcond.evaluate RUN_DIR [PATH=VALUE ...]`; see `--help`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from distcond.config.command_line import overridden_settings, run_cli
from distcond.config.overrides import apply_overrides, check_dial
from distcond.distributed.world import choose_device
from distcond.errors import ConfigError
from distcond.evaluation.make_plan import make_plan
from distcond.evaluation.plan import EvalPlan
from distcond.evaluation.probes import explained, gradient_signs
from distcond.evaluation.rows import keep_rows
from distcond.evaluation.spec import EvalSpec, attack_settings, read_spec
from distcond.launch.evaluate_driver import run_plan
from distcond.registry import describe_unknown, table
from distcond.results.labels import name_pairs
from distcond.results.row import Row
from distcond.results.tables import trade_off_table
from distcond.results.threat_table import threat_table
from distcond.runs.code_trust import take_trust
from distcond.runs.failures import LaunchFailed
from distcond.runs.pair_record import check_pair_checkpoint
from distcond.runs.run_cache import fetch_run, push_back
from distcond.runs.run_dir import RunDir
from distcond.terminal_text import printable

T = TypeVar("T")

_CHANGEABLE = ("eval.", "data.root", "data.loader", "data.cache_dir", "data.threads", "launch")

_USAGE = """\
usage: python -m distcond.evaluate RUN_DIR [PATH=VALUE ...] [--help]

Measure the accuracy of a run's network at every lam of a grid, without attack (SA) and under attacks (RA).

  python -m distcond.evaluate runs/RUN                               the run's own PGD
  python -m distcond.evaluate runs/RUN attack=autoattack             the standard ensemble
  python -m distcond.evaluate runs/RUN attack=apgd-ce,cw eval.attack.num_steps=50 eval.lam_grid=0,0.5,1
  python -m distcond.evaluate runs/RUN attack=autoattack launch.workers=8      processes of this machine
  python -m distcond.evaluate runs/RUN attack=autoattack launch=ray            workers of a Ray cluster
  python -m distcond.evaluate runs/RUN attack=apgd-ce threat=adaptive,transfer,worst noise=fixed,fresh,eot

Examples are counted in blocks of eval.batch_size. Random starts depend on seed, example and restart alone, so neither
the block size nor the number of workers changes them. Outcomes per example are stored in RUN_DIR/outcomes: a stopped
command resumes, and a finished one only prints its table. Rows are added to RUN_DIR/results, next to those of other
settings. If RUN_DIR is not writable, both go to ./evaluations/RUN.

attacks (attack=NAME or several; the attacker knows lam unless threat= says otherwise):
{attacks}
  {none:<{width}}  no attack: SA only

settings:
{settings}
  {eval:<{left}}  grid, threat model, number of examples: see python -m distcond.train --help
  {launch:<{left}}  processes of this machine (launch=local, the default here) or of a Ray cluster (launch=ray)
  {trust:<{left}}  import code that the run's config.json names even if others may have written that file
"""


def main(argv: Sequence[str]) -> int:
    """Run an evaluation and print its table; returns the exit status."""
    if not argv or set(argv) & {"--help", "-h"}:
        print(_help())
        return 0
    argv = take_trust(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    plan = plan_evaluation(argv)
    try:
        rows = measure(plan, argv[0])
    except LaunchFailed as error:
        print(f"failed: {error}\nthe same command resumes", file=sys.stderr)
        return 1
    rows = name_pairs(rows, plan.run_path)
    print(printable("\n\n".join(filter(None, (trade_off_table(rows), threat_table(rows), explained(plan))))))
    if plan.spec.probe:
        shares = gradient_signs(plan, choose_device(plan.config.launch.device)).items()
        print("\nsigns of input gradients, bf16 as float32:", ", ".join(f"{s:.1%} at {point}" for point, s in shares))
    return 0


def measure(plan: EvalPlan, place: str | Path) -> list[Row]:
    """Carry out a plan and return its rows, which are added to the run's results.

    Args:
        plan: what to evaluate.
        place: the run's path or URI; what is written is uploaded to a URI, also after a failure.

    Raises:
        ConfigError: as of `run_plan`, or the URI cannot be written.
        LaunchFailed: the evaluation failed; the same plan resumes.
    """
    try:
        workers = run_plan(plan)
    finally:
        push_back(place)
    rows = keep_rows(plan, workers, choose_device(plan.config.launch.device))
    push_back(place)
    return rows


def plan_evaluation(argv: Sequence[str]) -> EvalPlan:
    """The evaluation of a command line.

    Raises:
        ConfigError: no run or no checkpoint there, or an invalid option.
    """
    run = RunDir(fetch_run(argv[0], checkpoints=True))
    own, settings = split_args(argv[1:])
    for path, value in overridden_settings(argv[1:]):
        overridden, of_run = split_args([f"{path}={value}"])
        read_spec({**own, **overridden})
        apply_overrides(run.config(), of_run)
    return plan_of(run, own, settings)


def plan_of(run: RunDir, own: Mapping[str, Any], settings: Mapping[str, Any]) -> EvalPlan:
    """The evaluation of a run.

    Args:
        run: a run on this machine, with checkpoints.
        own: options of the evaluation by name (`EvalSpec`).
        settings: settings of the run's config to change, by dotted path.

    Raises:
        ConfigError: no run or no checkpoint there, or an invalid option.
    """
    config = apply_overrides(run.config(), {"launch": "local", "launch.workers": "0", **settings})
    check_dial(config, settings)
    spec = read_spec(own)
    if config.method.name == "pair":
        check_pair_checkpoint(run, own.get("checkpoint", ""))
    return make_plan(run, config, spec, attack_settings(settings))


def split_args(argv: Sequence[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Separate the options of the evaluation (`EvalSpec`) from settings of the run's config.

    Raises:
        ConfigError: an unknown option, or a setting that an evaluation cannot change.
    """
    return split_options(dict(arg.partition("=")[::2] for arg in argv))


def split_options(options: Mapping[str, T]) -> tuple[dict[str, T], dict[str, T]]:
    """`split_args` of options by name.

    Raises:
        ConfigError: as of `split_args`.
    """
    known = [field.name for field in fields(EvalSpec)]
    for path in options:
        if path not in known and not path.startswith(_CHANGEABLE):
            raise ConfigError(describe_unknown("setting of an evaluation", path, [*known, *_CHANGEABLE]))
    own = {path: value for path, value in options.items() if path in known}
    return own, {path: value for path, value in options.items() if path not in known}


def _help() -> str:
    attacks = {name: attack.summary for name, attack in table("attack").items()}
    width = max(map(len, attacks))
    defaults = {field.name: (_text(field.default), field.metadata["help"]) for field in fields(EvalSpec)}
    lines = {f"{name}={value}": help for name, (value, help) in defaults.items()}
    left = max(map(len, lines))
    return _USAGE.format(
        attacks="\n".join(f"  {name:<{width}}  {summary}" for name, summary in attacks.items()),
        settings="\n".join(f"  {option:<{left}}  {help}" for option, help in lines.items()),
        none="none", eval="eval.*", launch="launch.*", trust="trust=true", width=width, left=left,
    )  # fmt: skip


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
