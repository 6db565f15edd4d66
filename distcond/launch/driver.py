"""The one way to start a run: refuse what cannot run, then run it under the launcher the config names."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from distcond.attacks.config_checks import check_lengths, check_moves
from distcond.config.schema import Config
from distcond.data.extra import check_share
from distcond.distributed.world import rank_from_environment
from distcond.errors import ConfigError
from distcond.launch import local, stopping
from distcond.launch.capacity import check_range, number_of_workers, range_of_workers, this_machine
from distcond.launch.ray.cluster import ray_cluster, require_ray, uses_existing_cluster
from distcond.progress.reporter import report_progress
from distcond.results.labels import trains_on_attacks
from distcond.trackers import tracker_thread
from distcond.trackers.tracker_thread import track_run
from distcond.training.bn_batch_size import check_bn_batch_size

_log = logging.getLogger(__name__)


def is_main_process() -> bool:
    """Whether this process speaks for the run: always, except in torchrun's processes after the first."""
    return local.rank() == 0


def check(config: Config) -> int:
    """The number of workers that will run `config`. Starts no Ray.

    Raises:
        ConfigError: it cannot run here; the message names the setting and what would be valid.
    """
    tracker_thread.check_trackers(config.sinks)
    check_lengths("attack", config.attack)
    check_lengths("eval.attack", config.eval.attack)
    _check_moves(config)
    check_range(config.launch)
    workers = local.process_count(config.launch) if config.launch.name == "local" else _ray_workers(config)
    if config.batch_size < workers:
        few = f"batch_size={config.batch_size}: fewer images per step than the {workers} workers of launch.workers"
        raise ConfigError(f"{few}; valid: batch_size={workers} or more, or launch.workers={config.batch_size} or fewer")
    check_bn_batch_size(config, workers)
    if config.data.extra:
        check_share(config.batch_size, config.data.extra_share)
    return workers


def _check_moves(config: Config) -> None:
    """Raise ConfigError where training or a sweep of the run would call images attacked that are not."""
    if trains_on_attacks(config):
        check_moves("attack", config.attack, "method=standard")
    check_moves("eval.attack", config.eval.attack)
    check_moves("eval.attack", replace(config.eval.attack, num_steps=config.eval.val_steps), steps="eval.val_steps")


def launch(config: Config, run_path: Path, attempt: int) -> None:
    """Run `config` in `run_path`, from its last checkpoint if there is one, to the end.

    Args:
        config: what to run.
        run_path: its directory; on several nodes, on a file system they share.
        attempt: how often the run was started before; restarts of workers count on from there.

    Raises:
        ConfigError: a mistake of the user's that only shows now.
        LaunchFailed: the run did not finish; the message is one line with the cause.
        Stopped: SIGTERM or SIGUSR2 asked it to stop, and it has saved where it was.
    """
    run_path = run_path.absolute()
    if is_main_process():
        _warn_of_other_threat_model(config)
    if config.launch.name == "local":
        with report_progress(run_path, is_main_process()), track_run(config, run_path, is_main_process()):
            local.train(config, run_path, attempt)
        return
    stopping.clear_stop_request(run_path)
    _log.info("joining Ray ..." if uses_existing_cluster() else "starting Ray ...")
    with ray_cluster() as ray, report_progress(run_path), track_run(config, run_path):
        # Not before Ray is up: what it is to do about authentication is settled when it is imported.
        from distcond.launch.ray.trainer import train_on_ray

        train_on_ray(config, run_path, attempt, ray)


def _warn_of_other_threat_model(config: Config) -> None:
    """Who changes the ball of the training alone reads RA under another one."""
    ours, tested = config.attack, config.eval.attack
    if ours.norm != tested.norm or not math.isclose(ours.epsilon, tested.epsilon, rel_tol=0.05):
        _log.warning(
            "trained under %s eps=%.3g, tested under %s eps=%.3g, which eval.attack.norm and eval.attack.epsilon set",
            *(ours.norm, ours.epsilon, tested.norm, tested.epsilon),
        )


def _ray_workers(config: Config) -> int:
    if find_spec("ray") is None:
        raise ConfigError("launch.name=ray: Ray is not installed; valid: local, or pip install 'ray[default,train]'")
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ConfigError("launch.name=ray under torchrun: every process would start a run of its own; valid: local")
    place = rank_from_environment()
    if place.size > 1:
        of = f"RANK={place.rank} WORLD_SIZE={place.size} in the environment"
        raise ConfigError(
            f"launch.name=ray with {of}: every process would start a run of its own; valid: local, or unset both"
        )
    if not uses_existing_cluster():
        return number_of_workers(config.launch, this_machine())
    require_ray()
    if config.launch.workers:
        return config.launch.workers  # the cluster's size is looked at when the run has joined it
    with ray_cluster() as ray:
        return range_of_workers(config.launch, ray.capacity, elastic=not ray.own)[1]
