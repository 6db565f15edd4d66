"""Start a run: check that it can run here, then run it under the launcher that the config names."""

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
from distcond.distributed.rendezvous import rank_from_environment
from distcond.errors import ConfigError
from distcond.launch import local, stopping
from distcond.launch.capacity import check_min_workers, choose_num_workers, choose_worker_range, detect_capacity
from distcond.launch.ray.cluster import ray_cluster, require_ray, uses_existing_cluster
from distcond.progress.reporter import report_progress
from distcond.results.labels import trains_on_attacks
from distcond.trackers.tracker_thread import check_trackers, track_run
from distcond.training.bn_batch_size import check_bn_batch_size

_log = logging.getLogger(__name__)


def is_main_process() -> bool:
    """Whether this process logs for the run: always, except in torchrun's processes after the first."""
    return rank_from_environment().rank == 0


def check(config: Config) -> int:
    """Check that `config` can run here, before anything starts. Returns the number of its workers.

    Starts no Ray cluster, but may connect to an existing one.

    Raises:
        ConfigError: it cannot run here; the message names the setting and valid values.
    """
    check_trackers(config.sinks)
    check_lengths("attack", config.attack)
    check_lengths("eval.attack", config.eval.attack)
    _check_attacks_move(config)
    check_min_workers(config.launch)
    workers = local.count_processes(config.launch) if config.launch.name == "local" else _count_ray_workers(config)
    if config.batch_size < workers:
        few = f"batch_size={config.batch_size}: fewer images per step than the {workers} workers of launch.workers"
        raise ConfigError(f"{few}; valid: batch_size={workers} or more, or launch.workers={config.batch_size} or fewer")
    _check_shares(config, workers)
    check_bn_batch_size(config, workers)
    if config.data.extra:
        check_share(config.batch_size, config.data.extra_share)
    return workers


def launch(config: Config, run_path: Path, attempt: int) -> None:
    """Run `config` in `run_path` to its end, from its last checkpoint if there is one.

    Args:
        config: what to run.
        run_path: its directory; on several nodes, on a file system that they share.
        attempt: number of earlier starts of the run; restarts of workers count from there.

    Raises:
        ConfigError: an error of the user that only shows now.
        LaunchFailed: the run failed; the message is one line with the cause.
        RunStopped: SIGTERM or SIGUSR2 stopped the run, which has saved a checkpoint.
    """
    run_path = run_path.absolute()
    if is_main_process():
        _warn_of_different_threat_models(config)
    if config.launch.name == "local":
        with report_progress(run_path, is_main_process()), track_run(config, run_path, is_main_process()):
            local.train(config, run_path, attempt)
        return
    stopping.clear_stop_request(run_path)
    _log.info("joining Ray ..." if uses_existing_cluster() else "starting Ray ...")
    with ray_cluster() as ray, report_progress(run_path), track_run(config, run_path):
        # Imported only now: Ray reads its authentication settings when it is imported.
        from distcond.launch.ray.trainer import train_on_ray

        train_on_ray(config, run_path, attempt, ray)


def _check_shares(config: Config, workers: int) -> None:
    """Refuse more shares of a batch than it has images."""
    shares = workers * config.optim.accumulate
    if config.batch_size < shares:
        raise ConfigError(
            f"optim.accumulate={config.optim.accumulate}: {shares} shares of batch_size={config.batch_size} on "
            f"{workers} worker{'' if workers == 1 else 's'}; valid: 1 to {config.batch_size // workers}"
        )


def _check_attacks_move(config: Config) -> None:
    """Refuse attacks of training or evaluation that leave images unchanged."""
    if trains_on_attacks(config):
        check_moves("attack", config.attack, "method=standard")
    check_moves("eval.attack", config.eval.attack)
    check_moves("eval.attack", replace(config.eval.attack, num_steps=config.eval.val_steps), steps="eval.val_steps")


def _warn_of_different_threat_models(config: Config) -> None:
    """Warn if training and evaluation use different threat models."""
    training, evaluation = config.attack, config.eval.attack
    if training.norm != evaluation.norm or not math.isclose(training.epsilon, evaluation.epsilon, rel_tol=0.05):
        _log.warning(
            "different threat models: trained under %s eps=%.3g, evaluated under %s eps=%.3g; "
            "set eval.attack.norm and eval.attack.epsilon to change the latter",
            *(training.norm, training.epsilon, evaluation.norm, evaluation.epsilon),
        )


def _count_ray_workers(config: Config) -> int:
    if find_spec("ray") is None:
        raise ConfigError("launch.name=ray: Ray is not installed; valid: local, or pip install 'ray[default,train]'")
    _refuse_ray_in_ranks()
    if not uses_existing_cluster():
        return choose_num_workers(config.launch, detect_capacity())
    require_ray()
    if config.launch.workers:
        return config.launch.workers  # the run checks the cluster's capacity once it has joined
    with ray_cluster() as ray:
        return choose_worker_range(config.launch, ray.capacity, elastic=not ray.own)[1]


def _refuse_ray_in_ranks() -> None:
    """Refuse launch=ray in processes of another launcher: each of them would start its own run."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ConfigError("launch.name=ray under torchrun: every process would start its own run; valid: local")
    info = rank_from_environment()
    if info.size > 1:
        variables = f"RANK={info.rank} WORLD_SIZE={info.size} in the environment"
        raise ConfigError(
            f"launch.name=ray with {variables}: every process would start its own run; valid: local, or unset both"
        )
