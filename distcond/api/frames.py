"""Result rows and registered values as pandas data frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distcond.errors import ConfigError
from distcond.results.row import Row
from distcond.results.tables import as_records

if TYPE_CHECKING:
    import pandas

#: Columns of a curve, in this order. `dial` is the position in [0, 1], `rule` what it moves.
CURVE_COLUMNS = (
    *("dial", "width", "sa", "sa_low", "sa_high", "ra", "ra_low", "ra_high", "num_examples"),
    *("attack", "norm", "epsilon", "step_size", "num_steps", "restarts", "threat", "attack_lam", "noise_mode"),
    *("rule", "lam", "density", "warnings", "split", "checkpoint", "epoch"),
    *("method", "model", "dataset", "seed", "run_id"),
)


def curve_frame(rows: Iterable[Row]) -> pandas.DataFrame:
    """One line per operating point and attack, sorted by attack, width and dial; columns: `CURVE_COLUMNS`.

    `sa` and `ra` are in [0, 1], with the bounds of their Wilson 95 % intervals; NaN where they were not measured.
    Points without RA are left out where others have it.
    """
    records = [_curve_record(record) for record in as_records(rows)]
    attacked = [record for record in records if record["ra"] is not None]
    frame = to_frame(attacked or records, CURVE_COLUMNS)
    by = ["attack", "epsilon", "num_steps", "width", "dial"]
    return frame.sort_values(by, ascending=[True, True, True, False, True], kind="stable", ignore_index=True)


def to_frame(records: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> pandas.DataFrame:
    """Records as a data frame.

    Raises:
        ConfigError: pandas is missing.
    """
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("data frames need pandas: pip install pandas") from error
    return pandas.DataFrame(list(records), columns=None if columns is None else list(columns))


def _curve_record(record: Mapping[str, Any]) -> dict[str, Any]:
    examples = record["sa_num_examples"] if record["ra"] is None else record["ra_num_examples"]
    draws = record["sa_draws"] if record["ra"] is None else record["ra_draws"]
    own = {
        "dial": record["blend_t"] if record["blend"] else record["lam"],
        "rule": record["blend"] or "switch",
        "num_examples": examples // draws,
    }
    return {name: own[name] if name in own else record[name] for name in CURVE_COLUMNS}
