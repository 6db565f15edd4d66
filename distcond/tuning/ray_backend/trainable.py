"""The class that a `ray.tune.Tuner` is given, with what its trials ask for: of a sweep, or of a user's own script."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from distcond.config.schema import Config
from distcond.launch.capacity import detect_capacity, workers_use_gpu
from distcond.tuning.objective import read_objective
from distcond.tuning.ray_backend.run_trainable import RunTrainable, TrialSpec
from distcond.tuning.trial_config import workers_per_trial

#: What `Tuner.restore` asks for as the name of the trainable.
NAME = "distcond"

#: What a trial asks for besides its Ray Train workers: no core, since they need them all. Tune refuses to ask for
#: nothing.
_CONTROLLER = {"cpu": 0, "gpu": 0, "memory": 2**20}


def make_trainable(spec: TrialSpec, resources: Mapping[str, float]) -> type[tune.Trainable]:
    """The Trainable of an experiment, asking for `resources` per trial."""
    bound = type(NAME, (RunTrainable,), {"spec": spec, "__module__": __name__})
    return tune.with_resources(bound, dict(resources))


def trial_resources(config: Config, gpu: float) -> dict[str, float]:
    """What Tune has to give to a trial: cores and GPUs of a run with one worker.

    Several workers are placed by Ray Train.
    """
    if workers_per_trial(config.launch) > 1:
        return dict(_CONTROLLER)
    return {"cpu": config.launch.cpus_per_worker, "gpu": gpu}


def trainable(
    recipe: str,
    settings: Mapping[str, Any] | None = None,
    objectives: Sequence[str] = ("hypervolume",),
    reference: tuple[float, float] = (0.0, 0.0),
    hang: float = 1800.0,
    gpus: float | None = None,
) -> type[tune.Trainable]:
    """A class for `ray.tune.Tuner` whose config is {setting path: value}: each trial is a run of `distcond.train`.

    A result is an epoch: `epoch` (also as `training_iteration`), every objective by its name, `sa` and `ra` (the
    highest over the lam grid), `train_flops`, `seconds`, `run_dir`, `epochs` (of the whole run) and `saved_epochs` (of
    its latest checkpoint). With `eval.every=2` every second epoch is reported, since
    the others have no objective. A trial that Tune restores, or whose settings were tried before, resumes from its run
    directory. Its checkpoint is a directory for `distcond.load`. Pass `reuse_actors=True` to `TuneConfig`: a new trial
    then costs no new process.

    Args:
        recipe: whose settings hold where nothing else is said.
        settings: of every trial, over the recipe. With `launch.workers` above 1 the workers are those of Ray Train;
            then set `max_concurrent_trials` to what fits.
        objectives: as those of `distcond.tune`.
        reference: (SA, RA) above which the hypervolume is counted.
        hang: seconds without progress after which a trial fails.
        gpus: GPUs per trial, a fraction to share one; default 1 if torch sees a GPU here and launch.device allows it.

    Raises:
        ConfigError: a setting or an objective that is not valid.
    """
    fixed = {"run_root": str(Path.cwd() / "runs"), **(settings or {})}
    spec = TrialSpec(recipe, fixed, tuple(objectives), reference, hang, directory=os.getcwd())
    base = spec.config({})
    for name in objectives:
        read_objective(name, base)
    if gpus is None:
        gpus = float(workers_use_gpu(base.launch, detect_capacity()))
    return make_trainable(spec, trial_resources(base, gpus))
