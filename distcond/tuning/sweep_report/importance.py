"""Which settings mattered: permutation importance in a random forest that was fitted to the trials.

How much worse the forest's prediction of the objective gets when one setting is shuffled among the trials, in the unit
of the objective (scikit-learn: 300 trees, 30 shuffles, a fixed seed). Epochs trained are a column too, so that early
stopping is not taken for a setting's doing. Beside it stands how well the forest predicts trials it has not seen (R2
out of bag): near or below zero, its importances say nothing.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from distcond.errors import ConfigError
from distcond.tuning.sweep_report.read import Sweep

#: Below, nothing is estimated.
FEWEST = 8


class Importance(NamedTuple):
    """What shuffling each column costs (mean and standard deviation over shuffles), and R2 out of bag."""

    names: list[str]
    means: list[float]
    spreads: list[float]
    r2: float
    trials: int


def importance(sweep: Sweep) -> Importance | None:
    """Importances for the first objective, the largest first; None with fewer than `FEWEST` trials that have it.

    Raises:
        ConfigError: scikit-learn is missing.
    """
    rows = [row for row in sweep.rows() if row[sweep.objectives[0]] is not None]
    if len(rows) < FEWEST:
        return None
    try:
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.inspection import permutation_importance
    except ImportError as error:
        raise ConfigError("parameter importance needs scikit-learn: pip install scikit-learn") from error
    columns = [*sweep.settings, "epochs"]
    table = [list(column) for column in zip(*(codes([row[name] for row in rows]) for name in columns), strict=True)]
    target = [float(row[sweep.objectives[0]]) for row in rows]
    forest = RandomForestRegressor(300, oob_score=True, random_state=0).fit(table, target)
    shuffled = permutation_importance(
        forest, table, target, n_repeats=30, random_state=0, scoring="neg_mean_absolute_error"
    )
    order = sorted(range(len(columns)), key=lambda i: -shuffled.importances_mean[i])
    return Importance(
        [columns[i] if columns[i] != "epochs" else "(epochs trained)" for i in order],
        [float(shuffled.importances_mean[i]) for i in order],
        [float(shuffled.importances_std[i]) for i in order],
        float(forest.oob_score_),
        len(rows),
    )


def codes(values: list[Any]) -> list[float]:
    """Numbers as they are; other values by their place among those seen; -1 where a trial does not have it."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values if value is not None):
        return [-1.0 if value is None else float(value) for value in values]
    seen = sorted({json.dumps(value) for value in values if value is not None})
    return [-1.0 if value is None else float(seen.index(json.dumps(value))) for value in values]
