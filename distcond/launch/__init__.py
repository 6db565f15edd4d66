"""Start a run, on Ray or in this process: the only room that imports Ray, and only once it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def trainable(
    recipe: str, settings: Mapping[str, Any] | None = None, objectives: Sequence[str] = ("hypervolume",), **options: Any
) -> Callable[[dict[str, Any]], None]:
    """A function for `ray.tune.Tuner`; see `distcond.launch.tune.trainable.trainable`."""
    from distcond.launch.tune import trainable as door  # Ray has to be there only for those who call it

    return door.trainable(recipe, settings, objectives, **options)
