"""The points of a random search and of a grid: drawn or expanded up front, each a config, no two the same run."""

from __future__ import annotations

import inspect
import itertools
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch

from distcond.config.run_id import run_id
from distcond.errors import ConfigError
from distcond.seeding import generator
from distcond.tuning.options import SweepOptions
from distcond.tuning.space import Space, imported

#: Settings by path.
Point = dict[str, Any]

#: Points beyond which a grid is refused: something else was meant.
MAX_POINTS = 10_000

#: Draws for one trial; if none of them is new, the space holds no more.
MAX_DRAWS = 100

_log = logging.getLogger(__name__)


def draw_points(space: Space, options: SweepOptions) -> list[Point]:
    """The points of `search=random` or `search=grid`, in the order of the trials.

    A random point depends only on `search_seed` and its number. Fewer than asked for, with a line in the log, if the
    space has no more.

    Raises:
        ConfigError: a point that is no config, a grid beyond `MAX_POINTS`, a space function that raises or does not go
            with the search.
    """
    function = imported(space.function) if space.function else None
    if function is not None and (options.search == "grid" or takes_trial(function)):
        valid = "tpe, nsga2" if takes_trial(function) else "random"
        raise ConfigError(f"search={options.search}: the function of {space.name} needs another; valid: {valid}")
    if options.search == "grid":
        grid = {run_key(space, point): point for point in reversed(expand_grid(space, options.points))}
        return list(reversed(grid.values()))[: options.trials or None]
    count, points = options.trials or space.trials, dict[str, Point]()
    for number in range(count):
        draws = (_draw(space, function, options.search_seed, number, attempt) for attempt in range(MAX_DRAWS))
        new = next(((key, point) for point in draws if (key := run_key(space, point)) not in points), None)
        if new is None:
            report_exhausted(space.name, number, count)
            break
        points[new[0]] = new[1]
    return list(points.values())


def report_exhausted(name: str, found: int, wanted: int) -> None:
    """Log that a search ends before its number of trials."""
    _log.info(f"{name}: search space exhausted after {found} of {wanted} trials")


def draw_point(space: Space, source: torch.Generator) -> Point:
    """One random point."""
    point: Point = {}
    for axis in space.axes:
        value = axis.draw(source)  # in any case: the value of one axis does not shift the draws of the others
        if axis.exists(point):
            point[axis.path] = value
    return point


def expand_grid(space: Space, points: int) -> list[Point]:
    """Every combination, each once; an axis under a condition multiplies only where the condition holds.

    Raises:
        ConfigError: more than `MAX_POINTS`.
    """
    combinations: list[Point] = [{}]
    for axis in space.axes:
        combinations = [
            {**found, axis.path: value} if axis.exists(found) else found
            for found, value in itertools.product(combinations, axis.grid(points))
        ]
        combinations = list({json.dumps(found): found for found in combinations}.values())
        if len(combinations) > MAX_POINTS:
            raise ConfigError(f"search=grid: more than {MAX_POINTS} combinations; fewer points= or another search")
    return combinations


def run_key(space: Space, point: Mapping[str, Any]) -> str:
    """What two points share whose runs are the same.

    Raises:
        ConfigError: the point is no config.
    """
    try:
        config = space.config(point)
    except ConfigError as error:
        settings = " ".join(f"{path}={value}" for path, value in point.items())
        raise ConfigError(f"space {space.name}: {settings} is no run: {error}") from error
    # These are hashed by their content, which is not read here.
    content = [config.init_from, config.data.root, config.data.extra]
    return run_id(config, json.dumps(content, default=str))


def call_space(function: Callable[..., Any], source: Any) -> Point:
    """The point that a space function returns.

    Raises:
        ConfigError: it raises, or returns no settings.
    """
    try:
        point = function(source)
    except Exception as error:
        line = (str(error).splitlines() or [""])[0]
        raise ConfigError(f"the space's function raised {type(error).__name__}: {line}") from error
    if not isinstance(point, Mapping) or not point or not all(isinstance(path, str) for path in point):
        raise ConfigError(f"the space's function gave {point!r}; expected settings such as {{'optim.lr': 0.1}}")
    return dict(point)


def takes_trial(function: Callable[..., Any]) -> bool:
    """Whether a space function takes an `optuna.Trial` (its parameter is named trial), not a torch.Generator.

    Raises:
        ConfigError: it takes something else.
    """
    names = list(inspect.signature(function).parameters)
    if names not in (["trial"], ["generator"]):
        raise ConfigError(f"the space's function takes ({', '.join(names)}); valid: (trial) of Optuna, or (generator)")
    return names == ["trial"]


def _draw(space: Space, function: Callable[..., Any] | None, seed: int, number: int, attempt: int) -> Point:
    source = generator(seed, "trial", number, *([attempt] if attempt else []))
    return call_space(function, source) if function else draw_point(space, source)
