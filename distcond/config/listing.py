"""Lists of recipes, methods, models and other named values for a terminal, and the header of a recipe."""

from __future__ import annotations

import textwrap
from itertools import groupby
from typing import Any

from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.registry import KINDS, describe_unknown, lookup, table

#: Columns of a terminal. Longer lines are cut, unless the long form is asked for.
WIDTH = 80

TITLES = {
    "recipe": "recipes",
    "method": "methods",
    "model": "models",
    "data": "data sets",
    "sampler": "lam samplers",
    "convention": "key mappings of init_from",
    "attack": "attacks for evaluation (python -m distcond.evaluate RUN_DIR attack=NAME)",
    "sink": "experiment trackers (sinks=NAME)",
}
_HOURS_NOTE = "  (GPU hours = training FLOPs / an assumed rate; see RECIPE --help)"
_MORE = """
--list KIND          one line for each:
                     {kinds}
--list KIND --long   lines in full
RECIPE --help        paper, expected results and cost of a recipe, all settings"""


def list_registered(kind: str, long: bool = False) -> str:
    """The registered values of one kind, one line each; recipes by paper. Of all kinds, names alone.

    Args:
        kind: of `registry.KINDS`, its title in the list, or "all".
        long: whole summaries; otherwise lines are cut at 80 columns. Of all kinds: one line for every value.

    Raises:
        ConfigError: no such kind.
    """
    by_title = {title: name for name, title in TITLES.items()}
    kind = by_title.get(kind, kind)
    if kind != "all" and kind not in KINDS:
        raise ConfigError(describe_unknown("list", kind, ["all", *KINDS]))
    if kind == "all" and not long:
        return "\n".join([*map(_names, KINDS), _MORE.format(kinds=" ".join(KINDS))])
    lines = [line for name in (KINDS if kind == "all" else [kind]) for line in _list_kind(name, long)]
    return "\n".join(line if long else _cut(line) for line in lines)


def describe_recipe(name: str) -> str:
    """Paper, reproduced experiment, expected results and cost of a recipe."""
    recipe = lookup("recipe", name)
    nothing = f"nothing ({recipe.compared} compares)" if recipe.compared else "none listed"
    lines = {
        "paper": [heading(recipe)],
        "reproduces": [recipe.reproduces],
        "deviations": [str(deviation) for deviation in recipe.deviations] or [nothing],
        "expect": [recipe.expect],
        "cost": [recipe.cost],
        "ran": [recipe.ran],
    }
    width = max(map(len, lines))
    labelled = [(label if n == 0 else "", text) for label, texts in lines.items() for n, text in enumerate(texts)]
    return "\n".join([f"{name}: {recipe.summary}", "", *(f"  {label:<{width}}  {text}" for label, text in labelled)])


def format_hours(hours: float) -> str:
    """GPU hours as text."""
    if not hours:
        return "not counted"
    return "<0.01 GPU h" if hours < 0.01 else f"{hours:.2g} GPU h"


def heading(recipe: Any) -> str:
    """The paper of a recipe."""
    paper = recipe.paper
    return f"{paper.title} (arXiv {paper.arxiv}, {paper.venue})" if paper else "no paper"


def _names(kind: str) -> str:
    """The names of one kind, wrapped; of many recipes, their number and those of the digits."""
    names, title = list(table(kind)), TITLES[kind].partition(" (")[0]
    if kind == "recipe":
        title = f"{len(names)} {title}, --list recipe; those of the digits need no download"
        names = [name for name in names if name.endswith("_digits")]
    text = textwrap.wrap(", ".join(names), WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join([title, *text])


def _list_kind(kind: str, long: bool) -> list[str]:
    if kind == "recipe":
        return _list_recipes(long)
    values = table(kind)
    width = max(len(name) for name in values)
    return [TITLES[kind], *(f"  {name:<{width}}  {value.summary}" for name, value in values.items()), ""]


def _list_recipes(long: bool) -> list[str]:
    """Every recipe under the heading of its paper, oldest paper first; the long form has summaries."""
    recipes = sorted(table("recipe").values(), key=lambda recipe: (_arxiv(recipe), recipe.name))
    width = max(len(recipe.name) for recipe in recipes)
    lines = [TITLES["recipe"], _HOURS_NOTE]
    for _, group in groupby(recipes, _arxiv):
        of_paper = list(group)
        lines += ["", f"  {heading(of_paper[0])}", *(_recipe_line(recipe, width, long) for recipe in of_paper)]
    return [*lines, ""]


def _recipe_line(recipe: Any, width: int, long: bool) -> str:
    epochs = f"{recipe.settings.get('epochs', Config.epochs)} epochs"
    line = f"    {recipe.name:<{width}}  {epochs:>10}  {format_hours(recipe.gpu_hours):>11}"
    return f"{line}  {recipe.summary}" if long else line


def _arxiv(recipe: Any) -> str:
    return recipe.paper.arxiv if recipe.paper else ""


def _cut(line: str) -> str:
    """A line of at most `WIDTH` columns. Of a paper, the end in brackets is kept."""
    if len(line) <= WIDTH:
        return line
    end = line[line.rindex(" (arXiv") :] if line.endswith(")") and " (arXiv" in line else ""
    return line[: WIDTH - 4 - len(end)].rstrip() + " ..." + end
