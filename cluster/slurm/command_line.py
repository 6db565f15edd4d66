"""The command line of `python -m cluster.slurm`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cluster.slurm.profile import Profile, load_profile
from cluster.slurm.runs import SweepRequest
from cluster.slurm.sweep import Sweep
from distcond.errors import ConfigError

USAGE = """\
usage: python -m cluster.slurm COMMAND SWEEP [...]

A sweep of training runs as SLURM jobs. SWEEP is its directory, on a disk that all nodes share. It holds everything
that later commands need, so every command returns at once and works from any shell.

  plan   SWEEP [RECIPE] [PATH=VALUE ...] [options]   the sbatch text and a table of the runs; nothing is submitted
  submit SWEEP [RECIPE] [PATH=VALUE ...] [options]   submit the runs that were not submitted before
  status SWEEP [--all]                               counts by state, and all runs that are not finished
  logs   SWEEP RUN [--lines N]                       the last lines that a run's last job printed
  retry  SWEEP                                       submit failed and missing runs again; they resume
  cancel SWEEP [RUN ...]                             cancel the jobs of these runs, or of all
  gather SWEEP                                       all rows in one parquet data set, and a report

  python -m cluster.slurm submit sweeps/first float_digits epochs=5 --profile local
  python -m cluster.slurm submit ~/sweeps/noise float_cifar10_resnet20 data.root=~/cifar10 --profile gpu \\
      --grid method.alpha=0.1,0.25,0.5 --grid sampler=two_point,beta --seeds 0,1 --parallel 8
  python -m cluster.slurm submit ~/sweeps/drawn --space noise_scale --trials 16 --profile my_site.toml
  python -m cluster.slurm submit ~/sweeps/tuned --tune noise_scale scheduler=asha --profile ray

options of plan and submit:
  --profile NAME       resources of a job: cluster/profiles/NAME.toml, or a file FILE.toml [local]
  --set KEY=VALUE      change one key of the profile, such as account=NAME or time_min=60
  --grid PATH=A,B,C    vary a setting; several make a grid (A;B where values contain commas)
  --seeds 0,1 or 0-4   vary the seed
  --space NAME         sample this search space as distcond.tune search=random does; --trials N, --sample-seed S
  --tune               one job runs `python -m distcond.tune` with these arguments, on Ray on its nodes
  --parallel N         run at most N runs at a time
  --again              submit: also runs that were submitted before
"""

COMMANDS = ("plan", "submit", "status", "logs", "retry", "cancel", "gather")


def open_sweep(path: str) -> Sweep:
    """The sweep in a directory."""
    return Sweep(Path(path).expanduser().absolute())


def parse_command(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The command and its arguments. --help prints the usage and exits.

    Raises:
        ConfigError: no such command.
    """
    if not argv or argv[0] in ("--help", "-h") or "--help" in argv[1:] or "-h" in argv[1:]:
        print(USAGE)
        sys.exit(0)
    if argv[0] not in COMMANDS:
        raise ConfigError(f"no command {argv[0]!r}; valid: {', '.join(COMMANDS)}; see --help")
    return argv[0], list(argv[1:])


def parse_request(argv: Sequence[str]) -> tuple[Sweep, SweepRequest, Profile, bool]:
    """The arguments of `plan` and `submit`: the sweep, its runs, the profile, and whether to submit all again.

    Raises:
        ConfigError: an invalid argument or profile.
    """
    parser = _make_parser()
    parser.add_argument("args", nargs="*")
    parser.add_argument("--profile", default="local")
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--grid", action="append", default=[])
    parser.add_argument("--seeds", default="")
    parser.add_argument("--space", default="")
    parser.add_argument("--trials", type=int, default=0)
    parser.add_argument("--sample-seed", type=int, default=0)
    parser.add_argument("--parallel", type=int)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--again", action="store_true")
    parsed = parser.parse_intermixed_args(argv)
    changes = dict(_split_pair(text) for text in parsed.set)
    if parsed.parallel is not None:
        changes["parallel"] = str(parsed.parallel)
    request = SweepRequest(
        args=tuple(parsed.args),
        grid=tuple(parsed.grid),
        seeds=parsed.seeds,
        space=parsed.space,
        trials=parsed.trials,
        sample_seed=parsed.sample_seed,
        tune=parsed.tune,
    )
    return open_sweep(parsed.sweep), request, load_profile(parsed.profile, changes), parsed.again


def parse_sweep_args(argv: Sequence[str], more: str = "", flag: str = "", number: str = "") -> argparse.Namespace:
    """The arguments of the other commands: `sweep`, and if named `more` (NAME or NAME*), a flag and a number.

    Raises:
        ConfigError: an invalid argument.
    """
    parser = _make_parser()
    if more:
        parser.add_argument(more.rstrip("*"), nargs="*" if more.endswith("*") else None)
    if flag:
        parser.add_argument(f"--{flag}", action="store_true")
    if number:
        parser.add_argument(f"--{number}", type=int, default=40)
    parsed = parser.parse_intermixed_args(argv)
    parsed.sweep = open_sweep(parsed.sweep)
    return parsed


def _make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cluster.slurm", add_help=False, allow_abbrev=False)
    parser.error = _refuse  # type: ignore[method-assign]
    parser.add_argument("sweep")
    return parser


def _split_pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"--set {text}: needed: KEY=VALUE, a key of the profile")
    return key, value


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; see --help")
