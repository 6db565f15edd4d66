"""Chooses a recipe for a command that names a data set but no recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from distcond.errors import ConfigError
from distcond.path_errors import name_setting_in_errors
from distcond.registry import lookup, table

DEFAULT_RECIPE = "float_digits"

#: Data sets without recipes use those of a data set with images of similar size: side in pixels from, to, data set.
#: Recipes of digits fit digits alone: their epsilon would be visible in a photograph.
_STAND_INS = ((24, 48, "cifar10"), (49, 128, "tiny_imagenet"))


class RecipeChoice(NamedTuple):
    """A recipe, and one line that says why it was chosen; "" if that is obvious."""

    recipe: str
    why: str = ""


def choose_recipe(overrides: Mapping[str, Any], method: str = "float") -> RecipeChoice:
    """Choose the recipe for settings without one; the default recipe if they name no data set or the digits.

    Otherwise the cheapest recipe of the named method and model among those for the data set, or for images of similar
    size. For a method without such a recipe, the recipe of FLOAT.

    Args:
        overrides: settings by dotted path.
        method: the method if the settings name none.

    Raises:
        ConfigError: no recipe is made for such images, the data set does not exist, or only its root is set.
    """
    data = _named("data", overrides)
    if not data and overrides.get("data.root"):
        raise ConfigError(f"data.root={overrides['data.root']}: which data set? Set data=NAME, or name a recipe")
    if data in ("", "digits"):
        return RecipeChoice(DEFAULT_RECIPE)
    side = _side(data, overrides)
    recipe = _cheapest(_made_for(data, side), _named("method", overrides) or method, _named("model", overrides))
    if recipe is None:
        raise ConfigError(_none_fits(data, side))
    why = f"no recipe given: using {recipe.name}, made for {recipe.settings['data']} ({_size(recipe)} pixels)"
    own = recipe.settings["data"] == data
    return RecipeChoice(recipe.name, why if own else f"{why}; data={data} has {side}")


def choose_recipe_for_space(recipe: str, overrides: Mapping[str, Any]) -> RecipeChoice:
    """The recipe of a search space; if the settings name another data set, one chosen for that.

    Raises:
        ConfigError: as of `choose_recipe`.
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
    setting = str(overrides.get("data.image_size", "0"))
    if setting.isdecimal() and int(setting):
        return int(setting)
    if dataset.image_size or dataset.infer_sizes is None:
        return int(dataset.image_size)
    root = str(overrides.get("data.root", ""))
    with name_setting_in_errors({"data.root": root}):
        return int(dataset.infer_sizes(root).image_size)


def _made_for(data: str, side: int) -> list[Any]:
    recipes = [recipe for recipe in table("recipe").values() if not recipe.variant]
    own = [recipe for recipe in recipes if recipe.settings.get("data") == data]
    similar = next((name for low, high, name in _STAND_INS if low <= side <= high), "")
    return own or [recipe for recipe in recipes if recipe.settings.get("data") == similar]


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
        f"data={data}: no recipe is made for images of {side} pixels; name one to start from, such as {known}, "
        "and change what does not fit (attack.epsilon, model, epochs); --list recipe shows all"
    )


def _size(recipe: Any) -> int:
    return int(lookup("data", recipe.settings["data"]).image_size)
