"""What a trial runs: its config, and the run directory that belongs to it."""

from __future__ import annotations

from dataclasses import replace

from distcond.config.schema import Config, LaunchConfig
from distcond.data.prepare import infer_from_root, prepare_data
from distcond.errors import ConfigError
from distcond.init_from import initialise
from distcond.launch import driver
from distcond.runs.grid import lam_grid
from distcond.runs.run_dir import RunDir, run_dir_for
from distcond.training.build_trainer import check_trainable
from distcond.tuning.space import Space, check_space


def workers_per_trial(launch: LaunchConfig) -> int:
    """Workers of one trial, 1 unless set: many small trials at a time search faster than one large one."""
    return launch.workers or 1


def settle(config: Config) -> Config:
    """`config` as a trial runs it.

    Raises:
        ConfigError: the data cannot be found.
    """
    return replace(_with_workers(config), data=infer_from_root(config.data))


def base_config(space: Space) -> Config:
    """The config of a space with its fixed settings only, as trials run it.

    Raises:
        ConfigError: a value of the space that is no setting, or settings that no trial can have.
    """
    if space.axes:
        check_space(space)
    config = space.config({})
    if config.launch.name != "ray":
        raise ConfigError(f"launch={config.launch.name}: trials run on Ray; valid: ray")
    if config.fresh:
        raise ConfigError("fresh=true: a trial finds its run by its settings; set another dir= to start anew")
    return _with_workers(config)


def run_of(config: Config) -> RunDir:
    """The run directory of a settled config: that of the same run by `distcond.train` below the same root.

    Raises:
        ConfigError: the config cannot be trained.
    """
    origin = initialise.check_init_from(config)
    driver.check(config)
    lam_grid(config)  # whether sampler and grid fit the method
    found = prepare_data(config.data)
    check_trainable(config, found.sizes["train"], workers_per_trial(config.launch))
    content = found.fingerprint
    return run_dir_for(config, content if origin is None else f"{content}+{origin.digest}")


def _with_workers(config: Config) -> Config:
    launch = replace(config.launch, name="ray", workers=workers_per_trial(config.launch))
    return replace(config, launch=launch)
