"""Results: typed rows of integer counts, their files, statistics, selection and tables. No torch, nothing heavy.

May import config and root modules (atomic_io, operating_point); never runs or reporting.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def trials(path: Path | str) -> pandas.DataFrame:
    """The trials of a sweep of `python -m distcond.tune`, one row per trial; see `tuning.sweep_report.frame`."""
    from distcond.tuning.sweep_report import frame  # a run does not need it

    return frame.trials(path)
