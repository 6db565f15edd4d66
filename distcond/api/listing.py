"""What can be chosen, as data frames: recipes, methods, models, data sets and attacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distcond.api.frames import to_frame
from distcond.config.schema import Config
from distcond.registry import table

if TYPE_CHECKING:
    import pandas


def list_recipes() -> pandas.DataFrame:
    """The recipes, indexed by name.

    Columns: `summary`; `method`, `model` and `data`; `epochs`; `gpu_hours` of training at an assumed rate (0 = not
    counted); `arxiv` number of the paper ("" = none); `reproduces` and `expect`, what the paper or a run here reports.
    """
    records = [
        {
            "name": name,
            "summary": recipe.summary,
            **{kind: recipe.settings.get(kind, "") for kind in ("method", "model", "data")},
            "epochs": recipe.settings.get("epochs", Config.epochs),
            "gpu_hours": recipe.gpu_hours,
            "arxiv": recipe.paper.arxiv if recipe.paper else "",
            "reproduces": recipe.reproduces,
            "expect": recipe.expect,
        }
        for name, recipe in table("recipe").items()
    ]
    return to_frame(records).set_index("name")


def list_methods() -> pandas.DataFrame:
    """The training methods, indexed by name. Columns: `summary`, and `paper` with its section."""
    methods = table("method").items()
    return to_frame([{"name": n, "summary": m.summary, "paper": m.paper} for n, m in methods]).set_index("name")


def list_models() -> pandas.DataFrame:
    """The networks, indexed by name, with a `summary`."""
    return _summaries("model")


def list_datasets() -> pandas.DataFrame:
    """The data sets, indexed by name, with a `summary`."""
    return _summaries("data")


def list_attacks() -> pandas.DataFrame:
    """The attacks of an evaluation, indexed by name, with a `summary`."""
    return _summaries("attack")


def _summaries(kind: str) -> pandas.DataFrame:
    values = table(kind).items()
    return to_frame([{"name": name, "summary": value.summary} for name, value in values]).set_index("name")
