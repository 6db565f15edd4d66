"""The trials of a sweep as a pandas frame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from distcond.errors import ConfigError
from distcond.tuning.sweep_report.front import front
from distcond.tuning.sweep_report.read import read_sweep

if TYPE_CHECKING:
    import pandas


def trials(path: Path | str) -> pandas.DataFrame:
    """One line per trial: trial, state, every setting that varies, every objective, sa, ra, epochs, seconds,
    train_flops, run, error, and whether it is in the Pareto set. SA and RA are in [0, 1].

    Raises:
        ConfigError: no sweep there, or pandas is missing.
    """
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("trials as a frame need pandas: pip install pandas") from error
    sweep = read_sweep(path)
    inside = {row["trial"] for row in front(sweep)}
    return pandas.DataFrame([row | {"pareto": row["trial"] in inside} for row in sweep.rows()])
