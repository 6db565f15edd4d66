"""The command line of `distcond.train` (one recipe, any number of `path=value`), its help and lists; `run_cli`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from distcond.config.listing import describe_recipe, list_registered
from distcond.config.overrides import NAMED_GROUPS, check_dial, resolve, settings_of
from distcond.config.recipe_choice import RecipeChoice, choose_recipe
from distcond.config.schema import Config
from distcond.errors import ConfigError, DiskFull, FolderLost
from distcond.path_errors import describe_path_error
from distcond.registry import lookup
from distcond.terminal_text import printable_line

_USAGE = """\
usage: python -m distcond.train [RECIPE] [PATH=VALUE ...] [--list [KIND] [--long]] [--show] [--help]

Train one network whose trade-off between accuracy (lam=0) and robustness (lam=1) is chosen at test time.

  python -m distcond.train                                  the default recipe: FLOAT on handwritten digits
  python -m distcond.train float_cifar10_resnet20 data.root=~/cifar10
  python -m distcond.train attack.epsilon=0.1 eval.attack.epsilon=0.1 eval.lam_grid=0,0.5,1     training and evaluation
  python -m distcond.train method=pgd_at sampler.lam=1      a dedicated network on the same data
  python -m distcond.train launch=local                     without Ray; under torchrun, one process per rank
  ray job submit --working-dir . -- python -m distcond.train

The same settings resume a stopped run, or print the table of a finished one; fresh=true starts a new run.

  --list          names of recipes, methods, models, data sets, lam samplers, attacks and more
  --list KIND     one line for each: recipe, method, model, data, sampler, convention, attack, sink;
                  --long: lines in full
  --show          print the resolved settings and run nothing
  --help          this text, the paper, expected results and cost of RECIPE, and every setting with its value
"""


@dataclass(frozen=True)
class Command:
    """A parsed command line: the config, whether only to show it, and why its recipe was chosen, if none was named."""

    config: Config
    show: bool
    why: str = ""


def parse(argv: Sequence[str]) -> Command:
    """Parse a command line; `--help` and `--list` print and exit with status 0.

    Raises:
        ConfigError: an option, recipe, setting or value is not valid; the message names the valid ones.
    """
    parser = argparse.ArgumentParser(prog="python -m distcond.train", add_help=False, allow_abbrev=False)
    parser.error = _raise_config_error  # type: ignore[method-assign]
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--list", nargs="?", const="all", dest="listing")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    options = parser.parse_intermixed_args(argv)
    if options.listing:
        _print_and_exit(lambda: list_registered(options.listing, options.long))
    if options.long:
        raise ConfigError("--long: goes with --list, such as --list recipe --long")
    recipe, overrides = parse_args(options.arguments)
    choice = RecipeChoice(recipe) if recipe else choose_recipe(overrides)
    check_overridden_settings(options.arguments, choice.recipe)
    config = resolve(choice.recipe, overrides)
    check_dial(config, overrides)
    if options.help:
        settings = f"settings of {config.recipe} (any of them as PATH=VALUE):\n\n{describe(config)}"
        _print_and_exit(lambda: f"{_USAGE}\n{describe_recipe(config.recipe)}\n\n{settings}")
    return Command(config, options.show, choice.why)


def parse_args(arguments: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The recipe name ("" if there is none) and {path: value}; of a path given twice, the last counts."""
    recipes = [argument for argument in arguments if "=" not in argument]
    overrides = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    recipes += [overrides.pop("recipe")] if "recipe" in overrides else []
    if len(recipes) > 1:
        raise ConfigError(f"two recipes, {recipes[0]} and {recipes[1]}; name one; settings are PATH=VALUE")
    return recipes[0] if recipes else "", overrides


def overridden_settings(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """(path, value) of every PATH=VALUE whose path a later argument sets again. They do not count, but are checked."""
    pairs = [(path, value) for path, equals, value in (argument.partition("=") for argument in arguments) if equals]
    return [pair for number, pair in enumerate(pairs) if pair[0] in {path for path, _ in pairs[number + 1 :]}]


def check_overridden_settings(arguments: Sequence[str], recipe: str) -> None:
    """Check also the values that later arguments override: an invalid one is a mistake, too.

    Raises:
        ConfigError: as of `resolve`.
    """
    settings = dict(argument.split("=", 1) for argument in arguments if "=" in argument)
    for path, value in overridden_settings(arguments):
        check_value(path, value, recipe, settings)


def check_value(path: str, value: str, recipe: str, settings: Mapping[str, str]) -> None:
    """Check one value with the method, model and sampler of `recipe` and `settings`.

    Raises:
        ConfigError: as of `resolve`.
    """
    choices = {name: choice for name, choice in settings.items() if name.removesuffix(".name") in NAMED_GROUPS}
    if path == "recipe" or path in choices:
        lookup(path.removesuffix(".name"), value)  # its options would be those of the later one
    else:
        resolve(recipe, {**choices, path: value})


def describe(config: Config) -> str:
    """A table of every setting with its value and help line."""
    rows = [(f"{path}={_text(value)}", text) for path, value, text in settings_of(config)]
    width = max(len(left) for left, _ in rows if len(left) < 48)
    return "\n".join(f"  {left:<{width}}  {text}".rstrip() for left, text in rows)


def run_cli(main: Callable[[], int]) -> NoReturn:
    """Run an entry point and exit: a user error is one line on stderr and status 2, a full disk status 1, Ctrl-C
    status 130; no traceback."""
    try:
        status = main()
        sys.stdout.flush()
    except ConfigError as error:
        print(f"error: {printable_line(str(error))}", file=sys.stderr)
        status = 2
    except BrokenPipeError:  # of `| head`; the rest of the output would fail again at interpreter exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 128 + signal.SIGPIPE
    except (DiskFull, FolderLost) as error:
        print(f"failed: {printable_line(str(error))}", file=sys.stderr)
        status = 1
    except (OSError, RuntimeError) as error:
        line = describe_path_error(error)
        if line is None:
            raise
        print(f"error: {printable_line(line)}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        status = 130
    sys.exit(status)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(_text(item) for item in value)
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _print_and_exit(text: Callable[[], str]) -> NoReturn:
    print(text())
    sys.exit(0)


def _raise_config_error(message: str) -> NoReturn:
    raise ConfigError(f"{message}; settings are PATH=VALUE without dashes, see --help")
