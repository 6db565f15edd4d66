"""Carry a sweep out on Ray Tune."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from distcond.config.overrides import to_settings
from distcond.config.schema import Config
from distcond.errors import ConfigError
from distcond.launch.capacity import Capacity, detect_capacity
from distcond.launch.ray.cluster import ray_cluster, uses_existing_cluster
from distcond.launch.ray.local_auth import env_vars
from distcond.launch.ray.worker import read_probe
from distcond.launch.stopping import RunStopped, graceful_stop, request_stop, run_in_thread, stop_requested
from distcond.runs.failures import LaunchFailed, format_error_line
from distcond.tuning.course import Course
from distcond.tuning.objective import Objective
from distcond.tuning.ray_backend.leg import Order, run_leg
from distcond.tuning.ray_backend.room import nodes_of, per_trial, room
from distcond.tuning.trial import Leg
from distcond.tuning.words import Words

#: Ray Tune's own ways that a sweep has no use for.
_QUIET = {
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the sweep, which goes on from its files
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_MAX_PENDING_TRIALS_PG": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
}


#: Of a trial besides its workers: no core, since they need them all. Ray Tune refuses to be asked for nothing.
NEEDS: dict[str, float] = {"cpu": 0, "memory": 2**20}


def for_trials(config: Config) -> Config:
    """`config` with what a trial settles for itself."""
    return replace(config, launch=replace(config.launch, name="ray", workers=per_trial(config.launch)))


def check(config: Config, words: Words, nodes: Sequence[Capacity] = ()) -> None:
    """Refuse what could never run, before Ray is started. A cluster is looked at once it is joined.

    Args:
        config: of every trial.
        words: the sweep's.
        nodes: the machines that will run it; none = this one.

    Raises:
        ConfigError: no room for even one trial, or for fewer than wanted.
    """
    if nodes or not uses_existing_cluster():
        nodes = nodes or [detect_capacity()]
        whole = Capacity(sum(one.cores for one in nodes), sum(one.gpus for one in nodes), nodes[0].where)
        room(config.launch, whole, [{"CPU": one.cores, "GPU": one.gpus} for one in nodes], words.concurrent)


def drive(
    course: Course,
    config: Config,
    words: Words,
    objectives: list[Objective],
    path: Path,
    said: Callable[[Leg], None],
) -> None:
    """Run the course to its end.

    Args:
        course: what is to be done.
        config: of the space without anything drawn: it says what a trial needs.
        words: the sweep's.
        objectives: what is compared.
        path: the sweep's directory.
        said: called with each leg that is over.

    Raises:
        ConfigError: the cluster has no room for a trial.
        LaunchFailed: Ray Tune itself failed.
        Stopped: SIGTERM or SIGUSR2 asked for the end, and the trials that ran have saved where they were.
    """
    with ray_cluster() as found, env_vars({name: os.environ.get(name, value) for name, value in _QUIET.items()}):
        import ray

        at_a_time = room(config.launch, found.capacity, nodes_of(ray), words.concurrent)

        def order(leg: Leg) -> dict[str, Any]:
            settled = for_trials(course.config(leg.number))
            run_path = str(path / course.trials[leg.number].run)
            compared = [list(one) for one in objectives]
            return vars(Order(to_settings(settled), run_path, leg.until, compared, list(words.reference), words.hang))

        with graceful_stop(course.halt, config.launch.grace) as request:
            _fit(course, order, said, path, at_a_time)
        if request:
            ended = sum(trial.state in ("finished", "failed") for trial in course.trials.values())
            raise RunStopped(f"{ended} of {course.count} trials have ended", request.status)


def _fit(course: Course, order: Any, said: Any, path: Path, at_a_time: int) -> None:
    # Not before Ray is up, as in `driver.launch`.
    from ray import tune

    from distcond.tuning.ray_backend.hand import Halt, Hand

    # A trial that dies is told in a line of the sweep's own.
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    storage, halt = path / ".ray", Halt(lambda: _pass_on(course, path))
    shutil.rmtree(storage, ignore_errors=True)
    tuner = tune.Tuner(
        tune.with_resources(run_leg, NEEDS),
        tune_config=tune.TuneConfig(
            search_alg=Hand(course, order, said), num_samples=-1, max_concurrent_trials=at_a_time, reuse_actors=True
        ),
        run_config=tune.RunConfig(
            name="legs", storage_path=str(storage), verbose=0, log_to_file=False, callbacks=[halt]
        ),
    )
    try:
        run_in_thread(lambda: halt.noted(tuner.fit))
    except ConfigError:
        raise
    except Exception as error:
        raise LaunchFailed(f"Ray Tune: {format_error_line(error)}") from error
    finally:
        # Left to itself Ray Tune would go on in its thread, and look for the Ray that is about to end.
        halt.now()
        shutil.rmtree(storage, ignore_errors=True)


def _pass_on(course: Course, path: Path) -> None:
    """Ask the runs under way to stop, if the course is to; one that begins just then is asked at the next step."""
    for trial in course.trials.values() if course.halted else ():
        run_path = path / trial.run
        if trial.state == "running" and (start := read_probe(run_path)) and not stop_requested(run_path, start):
            with suppress(OSError):  # the next step tries again
                request_stop(run_path, start)
