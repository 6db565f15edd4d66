"""Run a sweep: build the `tune.Tuner`, start or resume it, and end it on request."""

from __future__ import annotations

import logging
import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distcond.errors import ConfigError, StopRequested
from distcond.launch.capacity import workers_use_gpu
from distcond.launch.ray.cluster import Cluster, ray_cluster
from distcond.launch.ray.local_auth import env_vars
from distcond.launch.ray.messages import put_message
from distcond.launch.stopping import RunStopped, graceful_stop, run_in_thread
from distcond.runs.failures import LaunchFailed, format_error_line
from distcond.storage.uri import open_store
from distcond.tuning.checks import check_names, check_schedule, check_search
from distcond.tuning.objective import Objective, read_objective
from distcond.tuning.options import SweepOptions
from distcond.tuning.points import draw_points
from distcond.tuning.ray_backend.snapshot import StateKeeper, repair_state
from distcond.tuning.space import Space
from distcond.tuning.sweep_dir import EXPERIMENT, LAST_STATE, SweepDir
from distcond.tuning.trial_capacity import check_capacity, max_concurrent_trials
from distcond.tuning.trial_config import base_config

if TYPE_CHECKING:
    from ray import tune
    from ray.tune import ResultGrid

_log = logging.getLogger(__name__)

#: Defaults for a quiet Tune that loses a second at most; what the user has set takes precedence.
_TUNE_DEFAULTS = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the command; the sweep resumes
    "TUNE_GLOBAL_CHECKPOINT_S": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}

#: Seconds that a command which ends at once waits for Tune.
HALT_SECONDS = 10.0

#: Short names of callbacks.
_CALLBACKS = {"tensorboard": "ray.tune.logger.TBXLoggerCallback"}


def explore(sweep: SweepDir, space: Space, options: SweepOptions) -> int:
    """Start a sweep or resume it. Returns the exit status: 0, or 1 if every trial failed.

    Raises:
        ConfigError: it cannot be run; nothing has been started or written.
        LaunchFailed: Ray failed.
        RunStopped: SIGTERM or SIGUSR2 stopped it, and its running trials have saved checkpoints.
    """
    results = run_sweep(sweep, space, options)
    _log.info(f"{len(results)} trials, {results.num_errors} failed; python -m distcond.report {sweep.place}")
    return int(len(results) > 0 and results.num_errors == len(results))


def run_sweep(
    sweep: SweepDir, space: Space, options: SweepOptions, points: Sequence[Mapping[str, Any]] | None = None
) -> ResultGrid:
    """Train the trials of a sweep, or what is left of them.

    Args:
        sweep: its directory.
        space: what varies.
        options: how it is searched.
        points: settings of the trials, in place of a search.

    Raises:
        ConfigError, LaunchFailed, RunStopped: see `explore`.
    """
    config = base_config(space)
    objectives = [read_objective(name, config) for name in options.objective]
    check_names(options)
    check_schedule(options, space, config)
    if points is None:
        check_search(options, space)
    check_capacity(config, options)
    sweep.check_free()
    with sweep.lock(), ray_cluster() as cluster, _tune_env():
        tuning = _Tuning(sweep, space, options, objectives, cluster, points)
        if not sweep.exists:
            sweep.begin(space, options)
        sweep.record_start()
        with graceful_stop(tuning.stop, config.launch.grace) as request:
            return tuning.fit(request)


def planned(sweep: SweepDir, space: Space, options: SweepOptions, nodes: Sequence[Any] = ()) -> str:
    """What a sweep would do on these machines, by default this one: its first trials and its directory.

    Raises:
        ConfigError: it cannot be run.
    """
    config = base_config(space)
    for name in options.objective:
        read_objective(name, config)
    check_names(options)
    check_schedule(options, space, config)
    check_search(options, space)
    check_capacity(config, options, nodes)
    sweep.check_free()
    # Others propose a point when a trial is about to begin.
    points = draw_points(space, options) if options.search in ("random", "grid") else []
    count = len(points) or options.trials or space.trials
    how = f"search={options.search} scheduler={options.scheduler}"
    lines = [f"{count} trials of {space.recipe}, {config.epochs} epochs, {how}, in {sweep.place}"]
    return "\n".join([*lines, *(f"  trial {number}: {point}" for number, point in enumerate(points[:3]))])


class _Tuning:
    """One start of a sweep on a running Ray."""

    def __init__(
        self,
        sweep: SweepDir,
        space: Space,
        options: SweepOptions,
        objectives: list[Objective],
        cluster: Cluster,
        points: Sequence[Mapping[str, Any]] | None,
    ) -> None:
        # Not before Ray is up: it reads its authentication settings when it is imported.
        from distcond.tuning.ray_backend.callbacks import ResumingJsonLogger, SweepCallback
        from distcond.tuning.ray_backend.run_trainable import TrialSpec
        from distcond.tuning.ray_backend.trainable import make_trainable, trial_resources

        logging.getLogger("ray").setLevel(logging.CRITICAL)  # a trial that failed is one line of the callback
        config, self.sweep, self.retries = base_config(space), sweep, options.retries
        self.messages = secrets.token_hex(8)
        spec = TrialSpec(
            space.recipe,
            {**space.fixed, **sweep.fixed()},
            tuple(options.objective),
            (options.reference[0], options.reference[1]),
            options.hang,
            self.messages,
            os.getcwd(),
        )
        gpus = options.gpus if workers_use_gpu(config.launch, cluster.capacity) else 0.0
        self.trainable = make_trainable(spec, trial_resources(config, gpus))
        self.tune_config, self.param_space = _build_search(space, options, objectives, cluster, points)
        keeper = None if sweep.uri else StateKeeper(sweep.experiment, sweep.path / LAST_STATE)
        self.callbacks = [
            ResumingJsonLogger(),  # type: ignore[no-untyped-call]
            SweepCallback(self.messages, options.objective, self.tune_config.num_samples, keeper),
            *(make_callback(name) for name in options.callbacks),
        ]

    def stop(self) -> None:
        """Ask all trials to save a checkpoint and end. Runs in a signal handler."""
        with suppress(Exception):  # the grace period ends what does not hear
            put_message(f"{self.messages}/stop", "yes")

    def fit(self, request: Any) -> ResultGrid:
        """Run to the end.

        Raises:
            LaunchFailed, RunStopped: see `explore`.
        """
        from ray import tune

        from distcond.tuning.ray_backend.callbacks import HALT

        HALT.clear()
        folder, filesystem = self._storage()
        run_config = tune.RunConfig(
            name=EXPERIMENT,
            storage_path=folder,
            storage_filesystem=filesystem,
            callbacks=self.callbacks,
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2, checkpoint_at_end=True),
            failure_config=tune.FailureConfig(max_failures=self.retries),
            verbose=0,
        )
        resumes = self._has_state(folder, filesystem)
        # Also when it resumes: the file that `restore` reads then holds objects of this start.
        tuner = tune.Tuner(
            self.trainable, param_space=self.param_space, tune_config=self.tune_config, run_config=run_config
        )
        if resumes:
            experiment = f"{folder}/{EXPERIMENT}"
            tuner = tune.Tuner.restore(experiment, self.trainable, storage_filesystem=filesystem)
        over = threading.Event()
        try:
            return run_in_thread(lambda: _fit(tuner, over))
        except StopRequested:
            raise RunStopped(f"the trials of {self.sweep.place} have saved their checkpoints", request.status) from None
        except ConfigError:
            raise
        except Exception as error:
            raise LaunchFailed(f"Ray Tune: {format_error_line(error)}") from error
        finally:  # also on Ctrl-C: left to itself Tune would start another Ray when this one is gone
            HALT.set()
            over.wait(HALT_SECONDS)

    def _storage(self) -> tuple[str, Any]:
        if not self.sweep.uri:
            return str(self.sweep.path), None
        store = open_store(self.sweep.uri)
        return store.base, store.filesystem

    def _has_state(self, folder: str, filesystem: Any) -> bool:
        if not self.sweep.uri:
            return repair_state(self.sweep.experiment, self.sweep.path / LAST_STATE)
        names = open_store(self.sweep.uri).names(EXPERIMENT)
        return any(Path(name).name.startswith("experiment_state-") for name in names)


def _build_search(
    space: Space,
    options: SweepOptions,
    objectives: Sequence[Objective],
    cluster: Cluster,
    points: Sequence[Mapping[str, Any]] | None,
) -> tuple[tune.TuneConfig, dict[str, Any]]:
    """What is tried and who decides, and the parameter space; `points` in place of a search."""
    import ray
    from ray import tune

    from distcond.tuning.ray_backend.callbacks import record_dead_trials
    from distcond.tuning.ray_backend.schedulers import build_scheduler, pauses_trials
    from distcond.tuning.ray_backend.searchers import build_search, search_points

    config = base_config(space)
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    at_a_time = max_concurrent_trials(config.launch, cluster.capacity, nodes, options)
    limited = replace(options, concurrent=at_a_time)
    given = None if points is None else search_points([dict(point) for point in points])
    search = given or build_search(space, limited, objectives)
    scheduler = build_scheduler(limited, space, config)
    record_dead_trials(scheduler)
    # Where trials wait for each other, the paused ones would count against a limit.
    unlimited = pauses_trials(scheduler)
    if isinstance(search.search_alg, tune.search.BasicVariantGenerator):
        search.search_alg.max_concurrent = 0 if unlimited else at_a_time
        unlimited = True
    tune_config = tune.TuneConfig(
        metric=objectives[0].name,
        mode="max" if objectives[0].up else "min",
        search_alg=search.search_alg,
        scheduler=scheduler,
        num_samples=search.num_samples,
        max_concurrent_trials=None if unlimited else at_a_time,
        reuse_actors=True,
        trial_dirname_creator=_trial_dirname,
    )
    return tune_config, search.param_space


def _fit(tuner: tune.Tuner, over: threading.Event) -> ResultGrid:
    try:
        return tuner.fit()
    finally:
        over.set()


def make_callback(name: str) -> Any:
    """A callback of Ray Tune by its name, `module.Class`.

    Raises:
        ConfigError: there is none, or it cannot be made without arguments.
    """
    module, _, attribute = _CALLBACKS.get(name, name).rpartition(".")
    try:
        return getattr(import_module(module), attribute)()
    except Exception as error:
        known = ", ".join(_CALLBACKS)
        raise ConfigError(
            f"callbacks={name}: {format_error_line(error)}; valid: {known}, or module.Class of a ray.tune.Callback"
        ) from error


def _trial_dirname(trial: Any) -> str:
    return str(trial.trial_id)


@contextmanager
def _tune_env() -> Iterator[None]:
    with env_vars({name: os.environ.get(name, value) for name, value in _TUNE_DEFAULTS.items()}):
        yield
