"""From a search space to Ray Tune: its search algorithm, parameter space and number of samples.

Of Ray's `Searcher` distcond has two subclasses: `PointSearch` below and `DistinctOptunaSearch`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from ray import tune
from ray.tune.search import SEARCH_ALG_IMPORT, BasicVariantGenerator, Searcher

from distcond.errors import ConfigError
from distcond.seeding import key
from distcond.tuning.axis import Axis
from distcond.tuning.checks import OWN_SEARCHERS
from distcond.tuning.objective import Objective
from distcond.tuning.options import SweepOptions, keyword_arguments
from distcond.tuning.points import draw_points
from distcond.tuning.ray_backend.optuna_search import DistinctOptunaSearch
from distcond.tuning.space import Space

_SEED_ARGUMENTS = ("seed", "random_state_seed", "random_seed", "random_state")


class Search(NamedTuple):
    """What `tune.Tuner` needs of a search: for `TuneConfig` the algorithm and `num_samples`, and `param_space`."""

    search_alg: Any
    param_space: dict[str, Any]
    num_samples: int


def build_search(space: Space, options: SweepOptions, objectives: Sequence[Objective]) -> Search:
    """The search of a sweep.

    Raises:
        ConfigError: a searcher whose library is missing, or one that does not go with the space.
    """
    if options.search in ("random", "grid"):
        return search_points(draw_points(space, options))
    if options.search in ("tpe", "nsga2"):
        return Search(DistinctOptunaSearch(space, options, objectives), {}, options.trials or space.trials)
    search = _ray_searcher(options)
    axes = [axis.path for axis in space.axes if axis.when]
    if axes or space.function or len(objectives) > 1:
        what = f"space {axes[0]}: `when`" if axes else "a space function" if space.function else "several objectives"
        raise ConfigError(f"search={options.search}: {what} needs another search; valid: {', '.join(OWN_SEARCHERS)}")
    return Search(search, {axis.path: domain(axis) for axis in space.axes}, options.trials or space.trials)


def search_points(points: Sequence[Mapping[str, Any]]) -> Search:
    """A search that hands out these points in their order.

    By Ray's own generator, with which all of Ray's schedulers go, if all points have the same settings and none is a
    list, of which it would vary the items.
    """
    paths = list(points[0]) if points else []
    lists = any(isinstance(value, list | dict) for point in points for value in point.values())
    if lists or any(set(point) != set(paths) for point in points):
        return Search(PointSearch(points), {}, len(points))
    # In place of domains nothing: every value is given.
    return Search(
        BasicVariantGenerator(points_to_evaluate=[dict(point) for point in points]), dict.fromkeys(paths), len(points)
    )


def domain(axis: Axis) -> Any:
    """An axis as Ray Tune's search space has it."""
    if axis.kind == "choice":
        return tune.choice(list(axis.values))
    if axis.kind == "integer":
        return tune.randint(int(axis.low), int(axis.high) + 1)
    if axis.low == axis.high:
        return tune.choice([axis.low])
    return (tune.loguniform if axis.kind == "loguniform" else tune.uniform)(axis.low, axis.high)


def load_class(option: str, name: str, base: type) -> Any:
    """The class at `module.Class` or `module:Class`.

    Raises:
        ConfigError: it cannot be imported, or is no `base`.
    """
    module, _, attribute = name.replace(":", ".").rpartition(".")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:  # a user's module may raise anything
        raise ConfigError(f"{option}={name}: {type(error).__name__}: {error}") from error
    if not (inspect.isclass(found) and issubclass(found, base)):
        raise ConfigError(f"{option}={name}: no class that extends ray.tune's {base.__name__}")
    return found


def construct(option: str, name: str, wanted: type, arguments: Mapping[str, Any]) -> Any:
    """An instance of a Ray class with a user's arguments.

    Raises:
        ConfigError: its library is missing, or it rejects the arguments.
    """
    try:
        return wanted(**arguments)
    except Exception as error:  # Ray asserts that libraries are there, and each class checks in its own way
        line = (str(error).splitlines() or [""])[0]
        raise ConfigError(f"{option}={name}: {type(error).__name__}: {line}; see {option}_options=") from error


class PointSearch(Searcher):
    """Hands out points of a list.

    Ray's `BasicVariantGenerator` does that only for points with the same keys, which conditional axes do not give.
    """

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        super().__init__()
        self.points, self.position = list(points), 0

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """The points are fixed."""
        return True

    def suggest(self, trial_id: str) -> Any:
        """The next point."""
        if self.position >= len(self.points):
            return Searcher.FINISHED
        self.position += 1
        return dict(self.points[self.position - 1])

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Results do not matter."""

    def save(self, checkpoint_path: str) -> None:
        """Write the position."""
        Path(checkpoint_path).write_text(json.dumps(self.position))

    def restore(self, checkpoint_path: str) -> None:
        """Read the position."""
        self.position = json.loads(Path(checkpoint_path).read_text())


def _ray_searcher(options: SweepOptions) -> Any:
    name = options.search
    if "." in name or ":" in name:
        wanted = load_class("search", name, Searcher)
    else:
        try:
            wanted = SEARCH_ALG_IMPORT[name]()  # type: ignore[no-untyped-call]
        except ImportError as error:
            raise ConfigError(f"search={name}: {error}; install its library") from error
    accepted = inspect.signature(wanted).parameters
    seeds = [argument for argument in _SEED_ARGUMENTS if argument in accepted][:1]
    seeded = {argument: key(options.search_seed, "search") % 2**32 for argument in seeds}
    given = keyword_arguments("search_options", options.search_options)
    return construct("search", name, wanted, {**seeded, **given})
