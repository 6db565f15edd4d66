"""Chooses the recipe of a command that names a data set and no recipe: one made for such images, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from distcond.errors import ConfigError
from distcond.path_errors import name_setting_in_errors
from distcond.registry import lookup, table

DEFAULT_RECIPE = "float_digits"

#: Data sets without a recipe of their own take those of the data set whose images are about as large: side in pixels
#: from, to, data set. Digits' recipes fit digits alone: their epsilon of 51/255 shows in a photograph.
_STAND_INS = ((24, 48, "cifar10"), (49, 128, "tiny_imagenet"))


class RecipeChoice(NamedTuple):
    """A recipe, and one line that says why it; "" where that goes without saying."""

    recipe: str
    why: str = ""


def choose_recipe(overrides: Mapping[str, Any], method: str = "float") -> RecipeChoice:
    """The recipe for settings that come without one; the default where they name no data set or the digits.

    Of the recipes made for the data set, or else for images of about that size, the cheapest of the method and model
    that are named. Methods that have none there take the settings of FLOAT's.

    Args:
        overrides: the settings by dotted path.
        method: whose recipe it is where the settings name no method.

    Raises:
        ConfigError: no recipe is made for such images; the message names recipes. Or the data set does not exist, or
            is not named where its root is.
    """
    data = _named("data", overrides)
    if not data and overrides.get("data.root"):
        raise ConfigError(f"data.root={overrides['data.root']}: which data set is it? Add data=NAME, or name a recipe")
    if data in ("", "digits"):
        return RecipeChoice(DEFAULT_RECIPE)
    side = _side(data, overrides)
    recipe = _cheapest(_made_for(data, side), _named("method", overrides) or method, _named("model", overrides))
    if recipe is None:
        raise ConfigError(_none_fits(data, side))
    why = f"no recipe is named: {recipe.name} is taken, made for {recipe.settings['data']} ({_size(recipe)} pixels)"
    own = recipe.settings["data"] == data
    return RecipeChoice(recipe.name, why if own else f"{why}; data={data} has {side}")


def choose_recipe_for_space(recipe: str, overrides: Mapping[str, Any]) -> RecipeChoice:
    """`recipe`, which a search space brings, or where the settings name another data set one that fits that.

    Raises:
        ConfigError: as `choose_recipe`.
    """
    settings, data = lookup("recipe", recipe).settings, _named("data", overrides)
    if data in ("", settings.get("data", "digits")):
        return RecipeChoice(recipe)
    return choose_recipe(overrides, settings.get("method", "float"))


def _named(kind: str, overrides: Mapping[str, Any]) -> str:
    return str(overrides.get(kind, overrides.get(f"{kind}.name", "")))


def _side(data: str, overrides: Mapping[str, Any]) -> int:
    """Side of the network's images in pixels."""
    dataset = lookup("data", data)
    said = str(overrides.get("data.image_size", "0"))
    if said.isdecimal() and int(said):
        return int(said)
    if dataset.image_size or dataset.found is None:
        return int(dataset.image_size)
    root = str(overrides.get("data.root", ""))
    with name_setting_in_errors({"data.root": root}):
        return int(dataset.found(root).image_size)


def _made_for(data: str, side: int) -> list[Any]:
    recipes = list(table("recipe").values())
    own = [recipe for recipe in recipes if recipe.settings.get("data") == data]
    like = next((name for low, high, name in _STAND_INS if low <= side <= high), "")
    return own or [recipe for recipe in recipes if recipe.settings.get("data") == like]


def _cheapest(recipes: list[Any], method: str, model: str) -> Any:
    for name in (method, "float", "pgd_at"):
        of_method = [recipe for recipe in recipes if recipe.settings["method"] == name]
        of_model = [recipe for recipe in of_method if recipe.settings["model"] == model]
        if of_method:
            return min(of_model or of_method, key=lambda recipe: (recipe.train_flops or float("inf"), recipe.name))
    return None


def _none_fits(data: str, side: int) -> str:
    names = ("float_cifar10_resnet20", "float_tiny_imagenet_resnet34", DEFAULT_RECIPE)
    known = ", ".join(f"{name} ({_size(table('recipe')[name])} pixels)" for name in names)
    return (
        f"data={data}: no recipe is made for images of {side} pixels; name the recipe to start from, such as {known}, "
        "and set what does not fit (attack.epsilon, model, epochs); --list recipe shows all"
    )


def _size(recipe: Any) -> int:
    return int(lookup("data", recipe.settings["data"]).image_size)
