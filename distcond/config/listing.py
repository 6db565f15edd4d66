"""What `--list` shows, one line each, and what `--help` says of a recipe."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.registry import KINDS, lookup, table, unknown

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


def listing(kind: str) -> str:
    """One line for each recipe, method, model, data set and sampler, or those of one kind; recipes by paper.

    Raises:
        ConfigError: no such kind.
    """
    by_title = {title: name for name, title in _TITLES.items()}
    kind = by_title.get(kind, kind)
    if kind != "all" and kind not in KINDS:
        raise ConfigError(unknown("list", kind, ["all", *KINDS]))
    kinds = list(KINDS) if kind == "all" else [kind]
    return "\n".join(_recipes() if kind == "recipe" else _list_one(kind) for kind in kinds)


def about(name: str) -> str:
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
