"""Explore a search space: `python -m distcond.tune SPACE [OPTION=VALUE ...] [PATH=VALUE ...]`; see `--help`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

if __name__ == "__main__" and not {"--help", "-h", "--list"} & set(sys.argv):
    print("reading the search space ...", file=sys.stderr, flush=True)  # the imports below take seconds

from distcond.config.command_line import check_value, overridden_settings, run_cli
from distcond.config.recipe_choice import choose_recipe_for_space
from distcond.errors import ConfigError
from distcond.launch.stopping import RunStopped
from distcond.runs.code_trust import take_trust
from distcond.runs.failures import LaunchFailed
from distcond.tuning.options import NAMES, SweepOptions, help_lines, read_options
from distcond.tuning.ray_backend.tuner import explore, planned
from distcond.tuning.space import Space, find_space, read_space, shipped
from distcond.tuning.sweep_dir import SweepDir

_USAGE = """\
usage: python -m distcond.tune SPACE [OPTION=VALUE ...] [PATH=VALUE ...]
       python -m distcond.tune --resume SWEEP_DIR
       python -m distcond.tune --confirm SWEEP_DIR [seeds=3] [attack=apgd-ce] [trials=3]

Train many runs that differ in the settings of a search space, and record their results.

  python -m distcond.tune --list                                         the built-in spaces
  python -m distcond.tune noise_scale budget=small scheduler=asha        minutes on a laptop
  python -m distcond.tune optimiser search=tpe data.root=~/cifar10 launch.workers=1
  python -m distcond.tune my_space.toml scheduler=pbt trials=8
  python -m distcond.tune my_module:space search=tpe                     def space(trial) -> {{"optim.lr": ...}}
  python -m distcond.tune width search=nsga2 objective=sa@0,ra@1,train_flops
  python -m distcond.tune --resume sweeps/noise_scale                    after any kill; so does the same command
  python -m distcond.report sweeps/noise_scale                           table, figures, one page
  python -m distcond.tune --confirm sweeps/noise_scale seeds=5           is the winner better than the recipe?

A trial is a trial of Ray Tune and a run of python -m distcond.train: its directory is in SWEEP_DIR/runs. With one
worker it trains in the process that Tune gives its cores or GPU; several workers are those of Ray Train.
SWEEP_DIR/experiment is Tune's, for Tuner.restore and ExperimentAnalysis. A trial that fails logs one line; the others
continue. SIGTERM stops a sweep after a checkpoint of every running trial.

options of the sweep:
{options}

Every other PATH=VALUE is a setting of all runs, see python -m distcond.train --help.
--show prints what would be run, and runs nothing. A sweep directory that others may write is resumed with trust=true.
"""


def main(argv: Sequence[str]) -> int:
    """Start or resume a sweep; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m distcond.tune", add_help=False, allow_abbrev=False)
    parser.error = _raise_config_error  # type: ignore[method-assign]
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--resume")
    parser.add_argument("--confirm")
    for flag in ("--list", "--show", "--help"):
        parser.add_argument(flag, action="store_true")
    options = parser.parse_intermixed_args(take_trust(argv))
    if options.help or not (options.arguments or options.resume or options.list or options.confirm):
        print(_USAGE.format(options=help_lines()))
        return 0
    if options.list:
        print(_list_spaces())
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    """Explore, resume, confirm or show a sweep; returns the exit status."""
    try:
        if options.confirm:
            return _confirm_sweep(options.confirm, options.arguments)
        if options.resume:
            sweep, space, settings = _load_sweep(options.resume, options.arguments)
        else:
            sweep, space, settings = parse_sweep(options.arguments)
        if options.show:
            print(planned(sweep, space, settings))
            return 0
        return explore(sweep, space, settings)
    except LaunchFailed as error:
        print(f"failed: {error}\nthe same command resumes", file=sys.stderr)
        return 1
    except RunStopped as stop:
        with suppress(OSError):  # stderr may be closed by now; the status still counts
            print(f"stopped: {stop}; the same command resumes", file=sys.stderr)
        return stop.status


def parse_sweep(argv: Sequence[str]) -> tuple[SweepDir, Space, SweepOptions]:
    """The sweep of a command line: its directory, search space and options.

    Raises:
        ConfigError: an invalid option, or the directory holds another sweep.
    """
    names = [arg for arg in argv if "=" not in arg]
    if len(names) != 1:
        raise ConfigError(f"{len(names)} spaces ({', '.join(names)}): name one; see python -m distcond.tune --list")
    fixed = dict(arg.split("=", 1) for arg in argv if "=" in arg)
    own = {name: fixed.pop(name) for name in NAMES if name in fixed}
    recipe = fixed.pop("recipe", None)
    space = find_space(names[0], own.get("budget") == "small")
    recipe = recipe or choose_recipe_for_space(space.recipe, fixed).recipe
    space = replace(space, recipe=recipe, fixed={**space.fixed, **fixed})
    options = read_options({**space.options, **own})
    for name, value in overridden_settings(argv):
        if name in NAMES:
            read_options({**space.options, **own, name: value})
        else:
            check_value(name, value, recipe, fixed)
    place = options.dir or str(Path("sweeps") / names[0].replace(":", ".").removesuffix(".toml").rpartition("/")[2])
    sweep = SweepDir.at(place)
    if sweep.exists:
        sweep.check_trusted()
        if sweep.request() != (space, options):
            raise ConfigError(f"dir={place}: holds another sweep; --resume {place} resumes it; or set dir=")
    return sweep, space, options


def _load_sweep(place: str, arguments: Sequence[str]) -> tuple[SweepDir, Space, SweepOptions]:
    """A sweep with its original space and options."""
    if arguments:
        raise ConfigError(f"{arguments[0]}: a sweep resumes with its original options; give none")
    sweep = SweepDir.at(place)
    request = sweep.request()
    sweep.check_trusted()
    return sweep, *request


def _confirm_sweep(path: str, arguments: Sequence[str]) -> int:
    """Train the winner of a sweep with more seeds and compare it with the recipe; returns the exit status."""
    options = {"seeds": "3", "attack": "apgd-ce", "trials": "3", **dict(arg.partition("=")[::2] for arg in arguments)}
    counts = [int(options[name]) if options[name].isdigit() else 0 for name in ("seeds", "trials")]
    if len(options) > 3 or min(counts) < 1:
        given = " ".join(arguments)
        raise ConfigError(f"{given}: valid with --confirm: seeds=3, trials=3 (1 or more) and attack=NAME,...")
    from distcond.tuning.sweep_report.confirm import confirm

    sweep = SweepDir.at(path)
    if sweep.exists:
        sweep.check_trusted()
    result = confirm(path, counts[0], options["attack"], counts[1])
    for trial in result["finalists"]:
        values = f"{trial['chosen_by']:.4f} as chosen, {trial['strong']:.4f} under {result['attack']}"
        print(f"trial {trial['trial']} ({trial['epochs']} epochs): {result['objective']} {values}")
    print(f"the order of the finished {'holds' if result['order_holds'] else 'changes'} under {result['attack']}")
    print(result["proxy"])
    print(f"trial {result['winner']} against the recipe on test, {result['attack']}: {result['verdict']}")
    return 0


def _list_spaces() -> str:
    spaces = [(name, read_space(file)) for name, file in shipped().items()]
    return "\n".join(
        f"{name:<13} {space.question}\n{'':<13} {space.trials} trials; {space.cost}" for name, space in spaces
    )


def _raise_config_error(message: str) -> NoReturn:
    raise ConfigError(f"{message}; see --help")


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
