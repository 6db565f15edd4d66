"""Recipes list every difference to their authors' experiment, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distcond.config.listing import describe_recipe
from distcond.config.overrides import apply_overrides, resolve, to_settings
from distcond.config.schema import Config
from distcond.recipes.recipe import Deviation, Recipe
from distcond.registry import table

RECIPES: dict[str, Recipe] = table("recipe")
WITH_AUTHORS = [name for name, recipe in RECIPES.items() if recipe.authors]
ROOT = Path(__file__).parents[2]


def test_papers_recipes_know_their_authors_settings() -> None:
    open_ones = ("smart", "trades", "awp")  # no code, or another network
    wanted = {
        name for name, recipe in RECIPES.items()
        if not recipe.reproduces.startswith("none") and not name.startswith(open_ones) and "averaged" not in name
    }  # fmt: skip
    assert wanted == set(WITH_AUTHORS)


@pytest.mark.parametrize("name", RECIPES)
def test_help_lists_deviations_in_one_form(name: str) -> None:
    recipe, text = RECIPES[name], describe_recipe(name)
    for deviation in recipe.deviations:
        for part in (deviation.subject, deviation.here, deviation.authors):
            assert part and part == part.strip() and "\n" not in part and "authors:" not in part
        assert str(deviation).startswith(f"{deviation.subject}: {deviation.here}; authors: {deviation.authors}")
        assert str(deviation) in text
    subjects = [deviation.subject for deviation in recipe.deviations]
    assert len(set(subjects)) == len(subjects)
    assert bool(subjects) != ("deviations  nothing" in text)


@pytest.mark.parametrize("name", RECIPES)
def test_nothing_is_claimed_only_with_a_test(name: str) -> None:
    recipe = RECIPES[name]
    assert bool(recipe.deviations) != bool(recipe.compared)
    if recipe.compared:
        file, _, test = recipe.compared.partition("::")
        assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")


def differing(config: Config, wanted: dict[str, Any]) -> set[str]:
    """The settings of a config that are not as wanted."""
    ours, theirs = to_settings(config), to_settings(apply_overrides(config, wanted))
    return {path for path in ours if ours[path] != theirs.get(path, ours[path])}


@pytest.mark.parametrize("name", WITH_AUTHORS)
def test_every_difference_of_settings_is_listed(name: str) -> None:
    recipe, config = RECIPES[name], resolve(name, {})
    listed = {path for deviation in recipe.deviations for path in deviation.settings}
    assert differing(config, dict(recipe.authors)) <= listed


@pytest.mark.parametrize("name", RECIPES)
def test_listed_settings_differ_and_restore_the_authors(name: str) -> None:
    recipe, config = RECIPES[name], resolve(name, {})
    for deviation in recipe.deviations:
        changed = differing(config, dict(deviation.settings))
        assert {path.removesuffix(".name") for path in changed} >= set(deviation.settings)
    restored = apply_overrides(
        config, {path: value for deviation in recipe.deviations for path, value in deviation.settings.items()}
    )
    if recipe.authors:
        assert differing(restored, dict(recipe.authors)) == set()


def test_a_hidden_difference_would_be_found() -> None:
    recipe = RECIPES["oat_cifar10_resnet34"]
    config = resolve("oat_cifar10_resnet34", {"optim.weight_decay": 1e-4, "precision.train": "auto"})
    listed = {path for deviation in recipe.deviations for path in deviation.settings}
    assert differing(config, dict(recipe.authors)) - listed == {"optim.weight_decay", "precision.train"}


def test_deviation_names_the_setting_that_restores() -> None:
    text = str(Deviation("selection", "one", "many", {"eval.select": "each", "drop_last": False, "optim.no_decay": ""}))
    assert text == "selection: one; authors: many (eval.select=each drop_last=false optim.no_decay=)"
