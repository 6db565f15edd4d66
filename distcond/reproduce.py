"""Reproduce the table of a paper: `python -m distcond.reproduce PAPER [OPTION=VALUE ...] [PATH=VALUE ...]`.

    python -m distcond.reproduce oat                                     on handwritten digits, minutes on two cores
    python -m distcond.reproduce sparsity_winning_twice scale=paper data.root=~/cifar10
    python -m distcond.reproduce float scale=cifar_small data.root=~/cifar10 --commands

Trains every network of the table, one after the other, with the settings of the recipes, and writes a page that sets
measured figures with 95 % intervals beside the published ones. Started again, it resumes the run that was interrupted
and skips those that are finished. The runs are ordinary runs: a run that `distcond.train` has finished with the same
settings counts, so on a cluster start the lines of `--commands` as jobs and then make the page with this command.

  PAPER             oat, float, smart or sparsity_winning_twice
  scale=digits      digits: a small network, here in this process; cifar_small: ResNet-20 on CIFAR-10 for ten epochs;
                    paper: the experiment in the authors' setting
  on=cifar10        scale=paper: the data set of the table; cifar10, cifar100, svhn, stl10 or tiny_imagenet
  only=TEXT         only the networks whose line contains one of these comma-separated texts
  out=reproduce     directory of the page
  --commands        print one command per run and train nothing
  PATH=VALUE        settings of every run, such as seed=1, data.root=DIR, launch=ray or run_root=DIR
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distcond.atomic_io import atomic_write_text
from distcond.config.command_line import parse_args, run_cli
from distcond.config.overrides import check_dial
from distcond.config.schema import Config
from distcond.errors import ConfigError, TransientError
from distcond.launch.stopping import RunStopped
from distcond.registry import describe_unknown
from distcond.reproduction.page import Line, page
from distcond.reproduction.tables import (
    TABLES,
    Network,
    Table,
    changes_of,
    config_of,
    published,
    recipe_name,
    table_of,
)
from distcond.runs.failures import LaunchFailed
from distcond.train import PreparedRun, execute, prepare_run

_log = logging.getLogger(__name__)

_OPTIONS = ("scale", "on", "only", "out")


@dataclass(frozen=True)
class Request:
    """What a command line asks for."""

    paper: str
    scale: str
    on: str
    out: Path
    networks: tuple[Network, ...]
    overrides: Mapping[str, str]

    @property
    def table(self) -> Table:
        """The table of the paper."""
        return table_of(self.paper)


def main(argv: Sequence[str]) -> int:
    """Train the networks of a table that are not trained yet, and write its page; returns the exit status."""
    if not argv or "--help" in argv or "-h" in argv:
        print(__doc__)
        return 0
    words = [word for word in argv if word != "--commands"]
    request = parse_request(words)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if len(words) < len(argv):
        print("\n".join(commands(request)))
        return 0
    try:
        prepared = [prepare_run(_config(request, network)) for network in request.networks]
    except TransientError as error:
        print(f"failed: {error}\nrun the same command again", file=sys.stderr)
        return 1
    return run_all(request, prepared, f"python -m distcond.reproduce {shlex.join(words)}")


def parse_request(words: Sequence[str]) -> Request:
    """The request of a command line.

    Raises:
        ConfigError: no paper, or an option, setting or value that is not valid; the message names the valid ones.
    """
    if any(word.startswith("-") for word in words):
        unknown = next(word for word in words if word.startswith("-"))
        raise ConfigError(describe_unknown("option", unknown, ("--commands", "--help")))
    paper, overrides = parse_args(words)
    if not paper:
        raise ConfigError(f"which paper? Name one of {', '.join(TABLES)}")
    table, options = table_of(paper), {name: overrides.pop(name) for name in _OPTIONS if name in overrides}
    scale, on = options.get("scale", "digits"), options.get("on", next(iter(table.benchmarks)))
    if "on" in options and scale != "paper":
        raise ConfigError(f"on={on}: changes nothing at scale={scale}; valid: scale=paper")
    networks = _chosen(table, options.get("only", ""))
    for network in networks:  # refused before the first is trained
        check_dial(config_of(table, network, scale, on, overrides), overrides)
    return Request(paper, scale, on, Path(options.get("out", "reproduce")).expanduser(), networks, overrides)


def _chosen(table: Table, only: str) -> tuple[Network, ...]:
    texts = [text.strip() for text in only.split(",") if text.strip()]
    chosen = tuple(n for n in table.networks if not texts or any(text in n.label for text in texts))
    if not chosen:
        labels = "; ".join(network.label for network in table.networks)
        raise ConfigError(f"only={only}: no network of the table; valid: a part of {labels}")
    return chosen


def _config(request: Request, network: Network) -> Config:
    return config_of(request.table, network, request.scale, request.on, request.overrides)


def commands(request: Request) -> list[str]:
    """One command per run."""
    found = []
    for network in request.networks:
        recipe = recipe_name(request.table, network, request.scale, request.on)
        changes = {**changes_of(network, request.scale), **request.overrides}
        words = [recipe, *(f"{path}={_text(value)}" for path, value in changes.items())]
        found.append(f"python -m distcond.train {shlex.join(words)}")
    return found


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def run_all(request: Request, prepared: Sequence[PreparedRun], command: str) -> int:
    """Execute the runs in turn, rewrite the page after each, and print it; returns the exit status."""
    lines = [
        Line(network, one.config, one.run.path, published(request.table, network, request.scale, request.on))
        for network, one in zip(request.networks, prepared, strict=True)
    ]
    file, failed = request.out / f"{request.paper}-{_place(request)}.md", list[str]()
    for number, (line, one) in enumerate(zip(lines, prepared, strict=True), 1):
        _log.info(f"network  {line.network.label} ({number} of {len(lines)})")
        try:
            if not one.run.finished:
                execute(one)
        except LaunchFailed as error:
            failed.append(f"{line.network.label}: {error}")
        except RunStopped as stop:
            print(f"stopped: {stop}; the same command resumes it", file=sys.stderr)
            return stop.status
        if one.is_main:
            _write(file, page(request.table, lines, request.scale, command))
    if prepared[0].is_main:
        print(f"{file.read_text(encoding='utf-8')}\npage     {file}")
    for text in failed:
        print(f"failed: {text}; the same command resumes it", file=sys.stderr)
    return int(bool(failed))


def _place(request: Request) -> str:
    return f"paper-{request.on}" if request.scale == "paper" else request.scale


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(file, text)
    except OSError as error:
        raise ConfigError(f"out={file.parent}: cannot be written ({error.strerror}); set out=DIR") from error


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
