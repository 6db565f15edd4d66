"""Start a run (in this process, under torchrun or on Ray) and stop it.

May import progress, trackers, training, evaluation, runs and lower; never tuning, except in `trainable`, or a command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def trainable(
    recipe: str, settings: Mapping[str, Any] | None = None, objectives: Sequence[str] = ("hypervolume",), **options: Any
) -> Any:
    """A class for `ray.tune.Tuner`; see `distcond.tuning.ray_backend.trainable.trainable`."""
    from distcond.tuning.ray_backend.trainable import trainable as make_trainable  # imports Ray

    return make_trainable(recipe, settings, objectives, **options)
