"""Start a run: in this process, under torchrun or on Ray; and ask it to stop.

May import everything below it (progress, trackers, training, evaluation, runs and lower), never tuning or a command.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def trainable(
    recipe: str, settings: Mapping[str, Any] | None = None, objectives: Sequence[str] = ("hypervolume",), **options: Any
) -> Callable[[dict[str, Any]], None]:
    """A function for `ray.tune.Tuner`; see `distcond.tuning.ray_backend.trainable.trainable`."""
    from distcond.tuning.ray_backend import trainable as door  # Ray has to be there only for those who call it

    return door.trainable(recipe, settings, objectives, **options)
