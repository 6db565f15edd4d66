"""The words of `python -m cluster.slurm`."""

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

A sweep of training runs as SLURM jobs. SWEEP is its directory, on a disk that all nodes share; everything that is
needed later is in it, so every command returns at once and any shell may ask.

  plan   SWEEP [RECIPE] [PATH=VALUE ...] [options]   the sbatch text and a table of the runs; nothing is submitted
  submit SWEEP [RECIPE] [PATH=VALUE ...] [options]   submit those that were not submitted before
  status SWEEP [--all]                               how the runs stand: counts, and all that are not finished
  logs   SWEEP RUN [--lines N]                       the end of what a run's last job printed
  retry  SWEEP                                       submit the failed and the missing again; they resume
  cancel SWEEP [RUN ...]                             end the jobs of these runs, or of all
  gather SWEEP                                       all rows in one parquet data set, and the report

  python -m cluster.slurm submit sweeps/first float_digits epochs=5 --profile local
  python -m cluster.slurm submit ~/sweeps/noise float_cifar10_resnet20 data.root=~/cifar10 --profile gpu \\
      --grid method.alpha=0.1,0.25,0.5 --grid sampler=two_point,beta --seeds 0,1 --parallel 8
  python -m cluster.slurm submit ~/sweeps/drawn --space noise_scale --trials 16 --profile my_site.toml
  python -m cluster.slurm submit ~/sweeps/tuned --tune noise_scale scheduler=asha --profile ray

options of plan and submit:
  --profile NAME       how jobs are asked for: cluster/profiles/NAME.toml, or a file FILE.toml [local]
  --set KEY=VALUE      change one key of the profile, such as account=NAME or time_min=60
  --grid PATH=A,B,C    vary a setting; several make a grid (A;B where the values hold commas)
  --seeds 0,1 or 0-4   vary the seed
  --space NAME         what distcond.tune would try at random in this search space; --trials N, --sample-seed S
  --tune               the words are those of `python -m distcond.tune`, which one job runs, on the Ray of its nodes
  --parallel N         so many runs at a time
  --again              submit: also what was submitted before
"""

COMMANDS = ("plan", "submit", "status", "logs", "retry", "cancel", "gather")


def open_sweep(word: str) -> Sweep:
    """The sweep of a directory."""
    return Sweep(Path(word).expanduser().absolute())


def parse_command(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The command and its words; --help prints and leaves.

    Raises:
        ConfigError: no such command.
    """
    if not argv or argv[0] in ("--help", "-h") or "--help" in argv[1:] or "-h" in argv[1:]:
        print(USAGE)
        sys.exit(0)
    if argv[0] not in COMMANDS:
        raise ConfigError(f"no command {argv[0]!r}; valid: {', '.join(COMMANDS)}; see --help")
    return argv[0], list(argv[1:])


def parse_request(words: Sequence[str]) -> tuple[Sweep, SweepRequest, Profile, bool]:
    """What `plan` and `submit` are told: the sweep, its runs, the profile, and whether all over again.

    Raises:
        ConfigError: a word or a profile that cannot be read.
    """
    parser = _parser()
    parser.add_argument("words", nargs="*")
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
    found = parser.parse_intermixed_args(words)
    changes = dict(_pair(word) for word in found.set)
    if found.parallel is not None:
        changes["parallel"] = str(found.parallel)
    ask = SweepRequest(
        tuple(found.words), tuple(found.grid), found.seeds, found.space, found.trials, found.sample_seed, found.tune
    )
    return open_sweep(found.sweep), ask, load_profile(found.profile, changes), found.again


def parse_sweep_args(words: Sequence[str], rest: str = "", flag: str = "", number: str = "") -> argparse.Namespace:
    """What the other commands are told: `sweep`, perhaps further words, a flag and a number.

    Raises:
        ConfigError: a word that does not belong there.
    """
    parser = _parser()
    if rest:
        parser.add_argument(rest.rstrip("*"), nargs="*" if rest.endswith("*") else None)
    if flag:
        parser.add_argument(f"--{flag}", action="store_true")
    if number:
        parser.add_argument(f"--{number}", type=int, default=40)
    found = parser.parse_intermixed_args(words)
    found.sweep = open_sweep(found.sweep)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cluster.slurm", add_help=False, allow_abbrev=False)
    parser.error = _refuse  # type: ignore[method-assign]
    parser.add_argument("sweep")
    return parser


def _pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise ConfigError(f"--set {word}: needed: KEY=VALUE, a key of the profile")
    return key, value


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; see --help")
