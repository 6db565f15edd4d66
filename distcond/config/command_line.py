"""Command lines: one recipe, any number of `path=value`, and the texts of `--help` and `--list`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NoReturn

from distcond.config.overrides import NAMED_GROUPS, check_dial, resolve, settings_of
from distcond.config.recipe_choice import RecipeChoice, choose_recipe
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.path_errors import describe_path_error
from distcond.registry import KINDS, describe_unknown, lookup, table

_USAGE = """\
usage: python -m distcond.train [RECIPE] [PATH=VALUE ...] [--list [KIND]] [--show] [--help]

Train one network and choose at test time where it stands between accuracy (lam=0) and robustness (lam=1).

  python -m distcond.train                                  the embedded default: FLOAT on handwritten digits
  python -m distcond.train float_cifar10_resnet20 data.root=~/cifar10
  python -m distcond.train attack.epsilon=0.1 eval.attack.epsilon=0.1 eval.lam_grid=0,0.5,1     in training, and tested
  python -m distcond.train method=pgd_at sampler.lam=1      a dedicated network on the same data
  python -m distcond.train launch=local                     without Ray; under torchrun, one process per rank
  ray job submit --working-dir . -- python -m distcond.train

A run with the same settings resumes where it stopped; a finished one prints its table; fresh=true starts anew.

  --list [KIND]   recipes by paper, methods, models, data sets, lam samplers and more, one line each, or one KIND:
                  recipe, method, model, data, sampler, convention, attack, sink
  --show          the settings this command resolves to; nothing is run
  --help          this text, what RECIPE reproduces, what to expect and what it costs, and every setting with its value
"""


@dataclass(frozen=True)
class Command:
    """What was asked: the config, whether only to show it, and why its recipe, where none was named."""

    config: Config
    show: bool
    why: str = ""


def parse(argv: Sequence[str]) -> Command:
    """Read a command line; `--help` and `--list` print and leave with status 0.

    Raises:
        ConfigError: a word, recipe, path or value that is not valid; the message names the valid ones.
    """
    parser = argparse.ArgumentParser(prog="python -m distcond.train", add_help=False, allow_abbrev=False)
    parser.error = _refuse  # type: ignore[method-assign]
    parser.add_argument("words", nargs="*")
    parser.add_argument("--list", nargs="?", const="all", dest="listing")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--help", "-h", action="store_true")
    found = parser.parse_intermixed_args(argv)
    if found.listing:
        _leave(lambda: list_registered(found.listing))
    recipe, overrides = parse_args(found.words)
    fitting = RecipeChoice(recipe) if recipe else choose_recipe(overrides)
    check_overridden_settings(found.words, fitting.recipe)
    config = resolve(fitting.recipe, overrides)
    check_dial(config, overrides)
    if found.help:
        settings = f"settings of {config.recipe} (any of them as PATH=VALUE):\n\n{describe(config)}"
        _leave(lambda: f"{_USAGE}\n{describe_recipe(config.recipe)}\n\n{settings}")
    return Command(config, found.show, fitting.why)


def parse_args(words: Sequence[str]) -> tuple[str, dict[str, str]]:
    """One recipe name ("" where there is none) and {path: value}; of a path given twice, the last counts."""
    recipes = [word for word in words if "=" not in word]
    overrides = dict(word.split("=", 1) for word in words if "=" in word)
    recipes += [overrides.pop("recipe")] if "recipe" in overrides else []
    if len(recipes) > 1:
        raise ConfigError(f"two recipes, {recipes[0]} and {recipes[1]}: name one; settings are PATH=VALUE")
    return recipes[0] if recipes else "", overrides


def overridden_settings(words: Sequence[str]) -> list[tuple[str, str]]:
    """(path, value) of every PATH=VALUE whose path a later one sets again: it does not count, but is checked."""
    said = [(path, value) for path, equals, value in (word.partition("=") for word in words) if equals]
    return [pair for number, pair in enumerate(said) if pair[0] in {path for path, _ in said[number + 1 :]}]


def check_overridden_settings(words: Sequence[str], recipe: str) -> None:
    """Refuse a value that does not count and could not: who wrote it is mistaken about the command.

    Raises:
        ConfigError: as `resolve`.
    """
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    for path, value in overridden_settings(words):
        check_value(path, value, recipe, settings)


def check_value(path: str, value: str, recipe: str, settings: Mapping[str, str]) -> None:
    """Refuse a value that the method, model and sampler of `recipe` and `settings` could not take.

    Raises:
        ConfigError: as `resolve`.
    """
    choices = {name: choice for name, choice in settings.items() if name.removesuffix(".name") in NAMED_GROUPS}
    if path == "recipe" or path in choices:
        lookup(path.removesuffix(".name"), value)  # the options are those of the one that counts
    else:
        resolve(recipe, {**choices, path: value})


def describe(config: Config) -> str:
    """Every setting with its value and one line of help."""
    rows = [(f"{path}={_text(value)}", text) for path, value, text in settings_of(config)]
    width = max(len(left) for left, _ in rows if len(left) < 48)
    return "\n".join(f"  {left:<{width}}  {text}".rstrip() for left, text in rows)


def run_cli(main: Callable[[], int]) -> NoReturn:
    """Run an entry point: a user's mistake is one line on stderr and status 2, Ctrl-C status 130; no traceback."""
    try:
        status = main()
        sys.stdout.flush()
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except BrokenPipeError:  # `| head` has read enough; what is left would fail again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 128 + signal.SIGPIPE
    except (OSError, RuntimeError) as error:
        line = describe_path_error(error)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
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


def _leave(text: Callable[[], str]) -> NoReturn:
    print(text())
    sys.exit(0)


def _refuse(message: str) -> NoReturn:
    raise ConfigError(f"{message}; settings are PATH=VALUE without dashes, see --help")


_TITLES = {
    "recipe": "recipes",
    "method": "methods",
    "model": "models",
    "data": "data sets",
    "sampler": "lam samplers",
    "convention": "names of tensors that init_from knows",
    "attack": "attacks of an evaluation (python -m distcond.evaluate RUN_DIR attack=NAME)",
    "sink": "tools that show a run besides (sinks=NAME)",
}
_HOURS = "  (GPU hours are counted FLOPs of training over a stated rate; RECIPE --help says which)"


def list_registered(kind: str) -> str:
    """One line for each recipe, method, model, data set and sampler, or those of one kind; recipes by paper.

    Raises:
        ConfigError: no such kind.
    """
    by_title = {title: name for name, title in _TITLES.items()}
    kind = by_title.get(kind, kind)
    if kind != "all" and kind not in KINDS:
        raise ConfigError(describe_unknown("list", kind, ["all", *KINDS]))
    kinds = list(KINDS) if kind == "all" else [kind]
    return "\n".join(_recipes() if kind == "recipe" else _list_one(kind) for kind in kinds)


def describe_recipe(name: str) -> str:
    """The header of a recipe: what it reproduces, what to expect, what it costs."""
    recipe = lookup("recipe", name)
    lines = {
        "paper": _heading(recipe),
        "reproduces": recipe.reproduces,
        "interpretation": recipe.interpretation or "nothing",
        "expect": recipe.expect,
        "cost": recipe.cost,
        "ran": recipe.ran,
    }
    width = max(len(word) for word in lines)
    return "\n".join([f"{name}: {recipe.summary}", "", *(f"  {word:<{width}}  {text}" for word, text in lines.items())])


def _recipes() -> str:
    """Every recipe under the heading of its paper, oldest paper first."""
    recipes = sorted(table("recipe").values(), key=lambda recipe: (_order(recipe), recipe.name))
    width = max(len(recipe.name) for recipe in recipes)
    lines = [_TITLES["recipe"], _HOURS]
    for _, group in groupby(recipes, _order):
        of_paper = list(group)
        lines += ["", f"  {_heading(of_paper[0])}", *(_line(recipe, width) for recipe in of_paper)]
    return "\n".join([*lines, ""])


def _line(recipe: Any, width: int) -> str:
    epochs = f"{recipe.settings.get('epochs', Config.epochs)} epochs"
    return f"    {recipe.name:<{width}}  {epochs:>10}  {_hours(recipe.gpu_hours):>11}  {recipe.summary}"


def _hours(hours: float) -> str:
    if not hours:
        return "not counted"
    return "<0.01 GPU h" if hours < 0.01 else f"{hours:.2g} GPU h"


def _heading(recipe: Any) -> str:
    paper = recipe.paper
    return f"{paper.title} (arXiv {paper.arxiv}, {paper.venue})" if paper else "no paper"


def _order(recipe: Any) -> str:
    return recipe.paper.arxiv if recipe.paper else ""


def _list_one(kind: str) -> str:
    values = table(kind)
    width = max(len(name) for name in values)
    return "\n".join([_TITLES[kind], *(f"  {name:<{width}}  {value.summary}" for name, value in values.items()), ""])
