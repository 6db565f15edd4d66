"""Runs drawn at random from a search space of `tune_spaces/`."""

from __future__ import annotations

import math
import random
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distcond.errors import ConfigError
from distcond.registry import unknown

FOLDER = Path(__file__).parents[2] / "tune_spaces"


def sampled(name: str, trials: int, seed: int) -> tuple[str, list[dict[str, Any]]]:
    """The recipe of a space and the settings of its trials; `trials` = 0 takes as many as the space says.

    Raises:
        ConfigError: no such space, or one that cannot be read.
    """
    file = Path(name).expanduser() if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not file.exists():
        known = sorted(found.stem for found in FOLDER.glob("*.toml"))
        raise ConfigError(f"{unknown('space', name, known)}; or a file FILE.toml")
    try:
        told = tomllib.loads(file.read_text(encoding="utf-8"))
        axes, recipe, count = told["space"], told["recipe"], trials or int(told["trials"])
    except (tomllib.TOMLDecodeError, KeyError, ValueError) as error:
        raise ConfigError(f"{file}: not a search space ({error})") from error
    return recipe, [_trial(axes, f"{seed} {number}", str(file)) for number in range(count)]


def _trial(axes: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    drawn = {path: _draw(axis, random.Random(f"{key} {path}"), f"{where}: space {path}") for path, axis in axes.items()}
    # An axis may exist only where others have certain values.
    return {
        path: value
        for path, value in drawn.items()
        if all(drawn.get(other) in valid for other, valid in axes[path].get("when", {}).items())
    }


def _draw(axis: Mapping[str, Any], source: random.Random, where: str) -> Any:
    kind = axis.get("kind")
    if kind == "choice":
        return source.choice(axis["values"])
    if kind == "uniform":
        return source.uniform(axis["low"], axis["high"])
    if kind == "loguniform":
        return math.exp(source.uniform(math.log(axis["low"]), math.log(axis["high"])))
    if kind == "integer":
        return source.randint(axis["low"], axis["high"])
    raise ConfigError(f"{where}: {unknown('kind', str(kind), ('choice', 'uniform', 'loguniform', 'integer'))}")
