"""What a report of runs shows: the rows of their best checkpoints, costs and swept settings. Each file is read once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from distcond.errors import ConfigError
from distcond.results.comparison import ComparisonGroup, comparison_groups
from distcond.results.cost import InferenceCost, costs_of, run_dirs_of
from distcond.results.labels import is_pair, name_pairs
from distcond.results.row import Row
from distcond.results.series import PointKey
from distcond.results.store import RunRows, scan_runs
from distcond.results.swept import SweptSetting, swept_settings_of


class ReportData(NamedTuple):
    """Rows, the run directory, costs and swept setting of each run, and the errors of the runs that are left out."""

    rows: list[Row]
    run_dirs: dict[str, Path]
    costs: dict[PointKey, InferenceCost]
    swept: dict[str, SweptSetting]
    errors: list[ConfigError]

    def groups(self) -> list[ComparisonGroup]:
        """The operating points, grouped by evaluation protocol."""
        return comparison_groups(self.rows, self.costs, self.swept)

    def only(self, run_ids: Collection[str]) -> ReportData:
        """The same of some runs."""
        return self._replace(rows=[row for row in self.rows if row.run_id in run_ids])


def read_report_data(places: Sequence[Path], split: str) -> ReportData:
    """Read the best checkpoints' rows on one split; on val, without any, those of the validation in training.

    A run with a damaged file is left out, unless none of its place is left.

    Raises:
        ConfigError: no rows below one of the places.
    """
    found = scan_runs(places, lambda values: _may_be_shown(values, split))
    runs = {run_dir: name_pairs(rows, run_dir) for run_dir, rows in found.rows.items()}
    rows = list(dict.fromkeys(row for place in places for row in _rows_at(place, found, runs, split)))
    ids = {row.run_id for row in rows}
    run_dirs = {run_id: run_dir for run_id, run_dir in run_dirs_of(runs).items() if run_id in ids}
    costs, errors = _read_costs(run_dirs)
    return ReportData(rows, run_dirs, costs, swept_settings_of(run_dirs), [*found.errors.values(), *errors])


def _may_be_shown(values: Mapping[str, Any], split: str) -> bool:
    return values["split"] == split and (values["checkpoint"] in ("best", "live") or is_pair(values["method"]))


def _rows_at(place: Path, found: RunRows, runs: Mapping[Path, list[Row]], split: str) -> list[Row]:
    folder = place.resolve()
    below = [row for run_dir, rows in runs.items() if run_dir.is_relative_to(folder) for row in rows]
    # A pair has one checkpoint, whichever it was made of.
    selected = [row for row in below if row.checkpoint == "best" or is_pair(row.method)]
    selected = selected or [row for row in below if row.checkpoint == "live"]
    if not selected:
        for run_dir, error in found.errors.items():
            if run_dir.is_relative_to(folder):
                raise error
        raise ConfigError(f"{place}: no {split} rows here; name a finished run or a directory of runs")
    return selected


def _read_costs(run_dirs: Mapping[str, Path]) -> tuple[dict[PointKey, InferenceCost], list[ConfigError]]:
    """Costs by point, and the errors of runs whose costs cannot be read: their points have unknown costs."""
    costs, errors = dict[PointKey, InferenceCost](), list[ConfigError]()
    for run_id, run_dir in run_dirs.items():
        try:
            costs |= costs_of({run_id: run_dir})
        except ConfigError as error:
            errors.append(error)
    return costs, errors
