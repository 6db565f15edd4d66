"""Results: typed rows of integer counts, their files, tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas


def trials(path: Path | str) -> pandas.DataFrame:
    """The trials of a sweep of `python -m distcond.tune`, one line each; see `distcond.results.tuned.frame.trials`."""
    from distcond.results.tuned import frame  # a run needs none of it

    return frame.trials(path)
