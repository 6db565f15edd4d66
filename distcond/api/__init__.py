"""Public Python API: what notebooks and the cluster package import. Every import is lazy, so this one is quick.

Example:

    run = distcond.train("float_digits")  # or distcond.Run("runs/RUN")
    run.curve()  # SA and RA along the dial, a data frame
    network = run.network(0.5)  # x in [0, 1] -> logits
    distcond.evaluate(run, "autoattack", examples=100)
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distcond.api.evaluation import evaluate as evaluate
    from distcond.api.exporting import export as export
    from distcond.api.listing import list_attacks as list_attacks
    from distcond.api.listing import list_datasets as list_datasets
    from distcond.api.listing import list_methods as list_methods
    from distcond.api.listing import list_models as list_models
    from distcond.api.listing import list_recipes as list_recipes
    from distcond.api.run import Run as Run
    from distcond.api.training import train as train
    from distcond.config.schema import Config, DataConfig
    from distcond.errors import ConfigError as ConfigError
    from distcond.exporting.load import load as load
    from distcond.models.conditional import AtLambda as AtLambda
    from distcond.models.dial import AtDial as AtDial
    from distcond.models.dial_network import DialNetwork as DialNetwork
    from distcond.models.plain_network import fold as fold
    from distcond.operating_point import OperatingPoint as OperatingPoint
    from distcond.storage.uri import is_uri as is_uri
    from distcond.tuning.cluster_sweeps import JobRun as JobRun
    from distcond.tuning.cluster_sweeps import export_trials as export_trials
    from distcond.tuning.cluster_sweeps import sample_space as sample_space
    from distcond.tuning.sweep_report.frame import trials as trials

#: Name -> module that defines it.
_MODULES = {
    "AtDial": "distcond.models.dial",
    "AtLambda": "distcond.models.conditional",
    "ConfigError": "distcond.errors",
    "DialNetwork": "distcond.models.dial_network",
    "JobRun": "distcond.tuning.cluster_sweeps",
    "OperatingPoint": "distcond.operating_point",
    "Run": "distcond.api.run",
    "evaluate": "distcond.api.evaluation",
    "export": "distcond.api.exporting",
    "export_trials": "distcond.tuning.cluster_sweeps",
    "fold": "distcond.models.plain_network",
    "is_uri": "distcond.storage.uri",
    "list_attacks": "distcond.api.listing",
    "list_datasets": "distcond.api.listing",
    "list_methods": "distcond.api.listing",
    "list_models": "distcond.api.listing",
    "list_recipes": "distcond.api.listing",
    "load": "distcond.exporting.load",
    "sample_space": "distcond.tuning.cluster_sweeps",
    "train": "distcond.api.training",
    "trials": "distcond.tuning.sweep_report.frame",
}


def __getattr__(name: str) -> Any:
    """Import a name on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'distcond.api' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def identify_run(config: Config) -> str:
    """The run ID that `python -m distcond.train` gives to a config. Reads the data's content, but converts nothing.

    Raises:
        ConfigError: the data cannot be read, or `init_from` does not fit the model.
    """
    from distcond.config.run_id import run_id

    data, content = _identify_data(config.data)
    config = replace(config, data=data)
    if config.init_from or getattr(config.method, "code_file", "") or config.epochs == 0:
        from distcond.init_from.initialise import check_init_from

        report = check_init_from(config)
        assert report is not None
        content = f"{content}+{report.digest}"
    return run_id(config, content)


@cache
def _identify_data(data: DataConfig) -> tuple[DataConfig, str]:
    """The data settings with what only the root tells, and the fingerprint of the content."""
    from distcond.data.extra import prepare_extra
    from distcond.data.prepare import infer_from_root, resolve_dataset

    data = infer_from_root(data)
    dataset = resolve_dataset(data)
    content = dataset.fingerprint(data.root)
    if data.extra:
        content = f"{content}+{prepare_extra(data.extra, data.cache_dir, dataset).fingerprint}"
    return data, content


def check_tune_args(args: Sequence[str], nodes: int, cores: int, gpus: int) -> None:
    """Check the arguments of `python -m distcond.tune` for a job of `nodes` nodes with so many cores and GPUs each.

    With `nodes` 0 this machine is checked.

    Raises:
        ConfigError: invalid arguments, or not one trial fits.
    """
    from distcond.launch.capacity import Capacity
    from distcond.tune import parse_sweep
    from distcond.tuning.ray_backend.tuner import planned

    planned(*parse_sweep(args), [Capacity(cores, gpus, "a job of this profile")] * nodes)


def report(*args: str) -> str:
    """What `python -m distcond.report ARGS` prints; it also writes the figures.

    Raises:
        ConfigError: invalid arguments, or no results there.
    """
    from distcond.report import main

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        main(args)
    return out.getvalue()
