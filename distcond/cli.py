"""The console script: `distcond COMMAND ARGS` is `python -m distcond.COMMAND ARGS`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import distcond
from distcond.config.command_line import run_cli
from distcond.errors import ConfigError
from distcond.registry import describe_unknown


class Command(NamedTuple):
    """A command: its module, whose `main(argv)` returns the exit status, and one line about it."""

    module: str
    summary: str


COMMANDS = {
    "train": Command("distcond.train", "train a network, resume it, or show its table"),
    "evaluate": Command("distcond.evaluate", "accuracy with and without attacks along the dial of a run"),
    "calibrate": Command("distcond.calibrate", "the position of the dial that reaches a target"),
    "report": Command("distcond.report", "tables, curves and the cheapest point, of one run or many"),
    "export": Command("distcond.export", "positions of the dial as plain networks: safetensors, .pt2, ONNX"),
    "serve": Command("distcond.serve", "a run's network over HTTP"),
    "pair": Command("distcond.pair", "two runs, a standard and a robust one, as one with a dial"),
    "reproduce": Command("distcond.reproduce", "the table of a paper, measured beside published figures"),
    "tune": Command("distcond.tune", "a sweep over a search space, on Ray"),
    "status": Command("distcond.status", "the state of every run below a folder"),
    "slurm": Command("cluster.slurm.__main__", "sweeps on SLURM (from a checkout)"),
    "job": Command("cluster.ray_job", "train as a Ray job (from a checkout)"),
}

_USAGE = """\
usage: distcond COMMAND [ARGUMENTS]

Train one network and choose its trade-off between accuracy and robustness when
you use it.

  distcond train                    a network on handwritten digits
  distcond train launch=local       the same in this process, without Ray
  distcond evaluate runs/RUN attack=autoattack
  distcond export runs/RUN dial=0.5

commands:
{commands}

distcond COMMAND --help explains a command, distcond train --list shows recipes,
methods, models and data sets. In Python: import distcond; help(distcond).
"""


def main(argv: Sequence[str]) -> int:
    """Run a command; without one, print what there is. Returns the exit status.

    Raises:
        ConfigError: no such command, as well as what the command raises.
    """
    if not argv or argv[0] in ("--help", "-h", "help"):
        width = max(map(len, COMMANDS))
        lines = [f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items()]
        print(_USAGE.format(commands="\n".join(lines)), end="")
        return 0
    if argv[0] == "--version":
        print(f"distcond {distcond.__version__}")
        return 0
    return find_command(argv[0])(argv[1:])


def find_command(name: str) -> Callable[[Sequence[str]], int]:
    """The `main` of a command.

    Raises:
        ConfigError: no such command, or one that needs a checkout where there is none.
    """
    if name not in COMMANDS:
        raise ConfigError(f"{describe_unknown('command', name, COMMANDS)}; distcond alone explains them")
    module = COMMANDS[name].module
    try:
        found: Callable[[Sequence[str]], int] = import_module(module).main
    except ModuleNotFoundError as error:
        if error.name != "cluster":
            raise
        raise ConfigError(
            f"distcond {name}: needs cluster/, which only a checkout has: git clone distcond, pip install -e . there"
        ) from error
    return found


def run() -> None:
    """Entry point of the console script. Modules of the working directory can be imported, as under `python -m`."""
    if not sys.flags.safe_path:
        sys.path.insert(0, str(Path.cwd()))
    run_cli(lambda: main(sys.argv[1:]))
