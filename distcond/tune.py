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
from distcond.runs.failures import LaunchFailed
from distcond.tuning.ray_backend.confirm import confirm
from distcond.tuning.ray_backend.sweep import explore, planned
from distcond.tuning.space import Space, find_space, read_space, shipped
from distcond.tuning.sweep_dir import SweepDir
from distcond.tuning.words import NAMES, Words, help_lines, words_of

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

A trial is a run of python -m distcond.train with the same settings: its directory is in SWEEP_DIR/runs, its workers are
those of Ray Train. Trials that are stopped keep their checkpoint, and resume from it if they are promoted. A trial that
fails logs one line; the others continue. SIGTERM stops a sweep after a checkpoint of every running trial.

options of the sweep:
{words}

Every other PATH=VALUE is a setting of all runs, see python -m distcond.train --help.
--show prints what would be run, and runs nothing.
"""


def main(argv: Sequence[str]) -> int:
    """Start or resume a sweep; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m distcond.tune", add_help=False, allow_abbrev=False)
    parser.error = _refuse  # type: ignore[method-assign]
    parser.add_argument("words", nargs="*")
    parser.add_argument("--resume")
    parser.add_argument("--confirm")
    for flag in ("--list", "--show", "--help"):
        parser.add_argument(flag, action="store_true")
    found = parser.parse_intermixed_args(argv)
    if found.help or not (found.words or found.resume or found.list or found.confirm):
        print(_USAGE.format(words=help_lines()))
        return 0
    if found.list:
        print(_listing())
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if found.confirm:
            return _confirmed(found.confirm, found.words)
        sweep, space, words = _resumed(found.resume, found.words) if found.resume else asked(found.words)
        if not found.show:
            return explore(sweep, space, words)
    except LaunchFailed as error:
        print(f"failed: {error}\nthe same command resumes", file=sys.stderr)
        return 1
    except RunStopped as stop:
        with suppress(OSError):  # stderr may be closed by now; the status still counts
            print(f"stopped: {stop}; the same command resumes", file=sys.stderr)
        return stop.status
    print(planned(sweep, space, words))
    return 0


def asked(said: Sequence[str]) -> tuple[SweepDir, Space, Words]:
    """What a command line asks for.

    Raises:
        ConfigError: a word that is not valid, or a directory in which another sweep lies.
    """
    names = [word for word in said if "=" not in word]
    if len(names) != 1:
        raise ConfigError(f"{len(names)} spaces ({', '.join(names)}): name one; see python -m distcond.tune --list")
    told = dict(word.split("=", 1) for word in said if "=" in word)
    own = {name: told.pop(name) for name in NAMES if name in told}
    recipe = told.pop("recipe", None)
    space = find_space(names[0], own.get("budget") == "small")
    recipe = recipe or choose_recipe_for_space(space.recipe, told).recipe
    space = replace(space, recipe=recipe, fixed={**space.fixed, **told})
    words = words_of({**space.words, **own})
    for name, value in overridden_settings(said):
        if name in NAMES:
            words_of({**space.words, **own, name: value})
        else:
            check_value(name, value, recipe, told)
    path = Path(words.dir or Path("sweeps") / names[0].replace(":", ".").removesuffix(".toml").rpartition("/")[2])
    sweep = SweepDir(path.expanduser().absolute())
    if sweep.trials() and sweep.asked() != (space, words):
        raise ConfigError(f"dir={path}: another sweep lies there; --resume {path} goes on with it; or set dir=")
    return sweep, space, words


def _resumed(path: str, said: Sequence[str]) -> tuple[SweepDir, Space, Words]:
    """A sweep as it was begun."""
    if said:
        raise ConfigError(f"{said[0]}: a sweep is resumed with the words it was begun with; give none")
    sweep = SweepDir(Path(path).expanduser().absolute())
    return sweep, *sweep.asked()


def _confirmed(path: str, said: Sequence[str]) -> int:
    """Look again at a sweep's winner."""
    told = {"seeds": "3", "attack": "apgd-ce", "trials": "3", **dict(word.partition("=")[::2] for word in said)}
    counts = [int(told[name]) if told[name].isdigit() else 0 for name in ("seeds", "trials")]
    if len(told) > 3 or min(counts) < 1:
        raise ConfigError(f"{' '.join(said)}: valid with --confirm: seeds=3, trials=3 (1 or more) and attack=NAME,...")
    found = confirm(SweepDir(Path(path).expanduser().absolute()), counts[0], told["attack"], counts[1])
    for one in found["finalists"]:
        values = f"{one['chosen_by']:.4f} as chosen, {one['strong']:.4f} under {found['attack']}"
        print(f"trial {one['trial']} ({one['epochs']} epochs): {found['objective']} {values}")
    print(f"the order of the finished {'holds' if found['order_holds'] else 'changes'} under {found['attack']}")
    print(found["proxy"])
    print(f"trial {found['winner']} against the recipe on test, {found['attack']}: {found['verdict']}")
    return 0


def _listing() -> str:
    found = [(name, read_space(file)) for name, file in shipped().items()]
    return "\n".join(
        f"{name:<13} {space.question}\n{'':<13} {space.trials} trials; {space.cost}" for name, space in found
    )


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; see --help")


if __name__ == "__main__":
    run_cli(lambda: main(sys.argv[1:]))
