"""Which runs a command asks for: a recipe, settings that hold for all, and those that vary."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from distcond.config.command_line import check_earlier, split_words
from distcond.config.fitting_recipe import fitting_recipe, refitted
from distcond.errors import ConfigError

#: Settings of where a run lies and how it starts: the sweep's business.
_OURS = {"fresh": "a job that starts again resumes", "launch": "the profile decides it", "launch.name": "likewise"}


@dataclass(frozen=True)
class Asked:
    """One run: a recipe and {dotted path: value}."""

    recipe: str
    overrides: dict[str, Any]

    def words(self) -> list[str]:
        """The words that `python -m distcond.train` takes."""
        return [self.recipe, *(f"{path}={text(value)}" for path, value in self.overrides.items())]


@dataclass(frozen=True)
class Ask:
    """What was asked for.

    Attributes:
        words: a recipe and PATH=VALUE, as for `distcond.train`.
        grid: PATH=VALUE,VALUE,...; where values hold commas, semicolons are between them.
        seeds: "0,1,2" or "0-4".
        space: a search space to sample, as `distcond.tune` knows it; "" = none.
        trials: how often; 0 = as often as the space says.
        sample_seed: of the sampling.
        tune: whether the words are those of `distcond.tune`, for one job that explores a space.
    """

    words: tuple[str, ...] = ()
    grid: tuple[str, ...] = ()
    seeds: str = ""
    space: str = ""
    trials: int = 0
    sample_seed: int = 0
    tune: bool = False


def runs_of(ask: Ask) -> list[Asked]:
    """Every run asked for, in the order of the grid, the last path varying fastest.

    Raises:
        ConfigError: a word that cannot be read.
    """
    recipe, fixed = split_words(ask.words)
    check_earlier(ask.words, recipe or fitting_recipe(fixed).recipe)
    axes: list[list[tuple[str, Any]]] = [_axis(word) for word in ask.grid]
    if ask.seeds:
        axes.append([("seed", seed) for seed in _seeds(ask.seeds)])
    of_space, drawn = "", list[dict[str, Any]]([{}])
    if ask.space:
        of_space, drawn = _sampled(ask)
    elif ask.trials:
        raise ConfigError(f"--trials {ask.trials}: of what? Name a search space with --space")
    runs = []
    for point in drawn:
        for combination in itertools.product(*axes):
            overrides = {**fixed, **point, **dict(combination)}
            named_recipe = overrides.pop("recipe", recipe)
            runs.append(Asked(named_recipe or _fitting(of_space, overrides), overrides))
    for path in runs[0].overrides:
        if path in _OURS:
            raise ConfigError(f"{path}: not a setting of a sweep: {_OURS[path]}")
    return runs


def _fitting(of_space: str, overrides: dict[str, Any]) -> str:
    return refitted(of_space, overrides).recipe if of_space else fitting_recipe(overrides).recipe


def text(value: Any) -> str:
    """A value as a word of a command line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(text(item) for item in value)
    return repr(value) if isinstance(value, float) else str(value)


def _sampled(ask: Ask) -> tuple[str, list[dict[str, Any]]]:
    """The recipe of a space, and what `distcond.tune search=random` would try with the same seed."""
    from distcond.launch.tune.sweep import count, proposing  # torch, which takes long to import
    from distcond.tuning.space import find_space
    from distcond.tuning.words import words_of

    space, words = find_space(ask.space), words_of({"trials": ask.trials, "search_seed": ask.sample_seed})
    proposer = proposing(space, words, [])
    found = (proposer.propose(number) for number in range(count(space, words)))
    return space.recipe, [dict(drawn) for drawn in found if drawn is not None]


def _axis(word: str) -> list[tuple[str, Any]]:
    path, equals, values = word.partition("=")
    found = [value.strip() for value in values.split(";" if ";" in values else ",")]
    if not equals or not path or not all(found):
        raise ConfigError(f"--grid {word}: needed: PATH=VALUE,VALUE,... (PATH=A;B where the values hold commas)")
    return [(path, value) for value in found]


def _seeds(words: str) -> Sequence[int]:
    first, dash, last = words.partition("-")
    try:
        return range(int(first), int(last) + 1) if dash else [int(word) for word in words.split(",")]
    except ValueError as error:
        raise ConfigError(f"--seeds {words}: needed: 0,1,2 or 0-4") from error
