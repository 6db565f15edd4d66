"""The history of a training run: one JSON line per epoch in `<run_dir>/history.jsonl`.

A record is a flat mapping with an integer `epoch`. Figures read `step`, `train_loss`, `lr`, `images_per_second`,
`seconds`, and `val`, a list of {"lam", "sa", "ra"} with accuracies in [0, 1] (and `width` if there are several).
`world_sizes` are the numbers of processes that trained the run so far. Other keys are stored unchanged. Only one
process of a run may write. Every checkpoint holds a copy, from which a damaged history is restored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distcond.atomic_io import atomic_write_text
from distcond.errors import ConfigError
from distcond.run_layout import HISTORY_FILE

Record = dict[str, Any]
#: Fields of a record that figures read as numbers.
_NUMBERS = ("step", "train_loss", "lr", "images_per_second", "seconds")


def append(run_dir: Path | str, record: Mapping[str, Any]) -> None:
    """Append an epoch's record. Records of this epoch or later ones, as after a resume, are removed first.

    Numbers that JSON cannot represent (a NaN or infinite loss) are written as null.
    """
    assert isinstance(record.get("epoch"), int), "a record needs an integer epoch"
    path = Path(run_dir) / HISTORY_FILE
    line = json.dumps(_finite(dict(record)), allow_nan=False) + "\n"
    earlier = read(run_dir)
    if earlier and not (_ends_with_newline(path) and earlier[-1]["epoch"] < record["epoch"]):
        kept = [json.dumps(old) + "\n" for old in earlier if old["epoch"] < record["epoch"]]
        atomic_write_text(path, "".join([*kept, line]))
    elif not earlier:
        atomic_write_text(path, line)
    else:
        with open(path, "a", encoding="utf-8") as file:
            file.write(line)


def restore(run_dir: Path | str, copy: Path, done: int) -> list[int]:
    """Restore the records of the first `done` epochs that the history lacks from a `copy`; returns their epochs.

    Raises:
        ConfigError: neither has them; or without a copy, a line is damaged.
    """
    path = Path(run_dir) / HISTORY_FILE
    if not copy.exists():
        return []
    own = {record["epoch"]: record for record in _valid_records(path)}
    stored = {record["epoch"]: record for record in _valid_records(copy) if record["epoch"] <= done}
    missing = sorted(set(stored) - set(own))
    if missing or _is_damaged(path):
        merged = {**stored, **own}
        atomic_write_text(path, "".join(json.dumps(merged[epoch]) + "\n" for epoch in sorted(merged)))
    return missing


def require_epochs(run_dir: Path | str, first: int, last: int) -> None:
    """Check that a history has the records of the epochs `first` to `last`.

    Raises:
        ConfigError: it lacks one.
    """
    epochs = {record["epoch"] for record in read(run_dir)}
    missing = [epoch for epoch in range(first, last + 1) if epoch not in epochs]
    if missing:
        lacking = f"{len(missing)} of {last} epochs are missing, the first is {missing[0]}"
        raise ConfigError(
            f"{Path(run_dir) / HISTORY_FILE}: {lacking}; restore the file, or set fresh=true to start anew"
        )


def as_text(run_dir: Path | str) -> str:
    """The history as the text of its file, without damaged lines; "" without a file."""
    return "".join(json.dumps(record) + "\n" for record in _valid_records(Path(run_dir) / HISTORY_FILE))


def read(run_dir: Path | str) -> list[Record]:
    """All records, ordered by epoch; empty without a file. A last line cut off by a kill is dropped.

    Raises:
        ConfigError: a line before the last is no record.
    """
    path = Path(run_dir) / HISTORY_FILE
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines()
    records = []
    for number, line in enumerate(lines, 1):
        record = _parse(line)
        if record is not None:
            records.append(record)
        elif number < len(lines):
            raise ConfigError(f"{path}, line {number}: damaged, not the record of an epoch; restore the line")
    return records


def world_sizes(run_dir: Path | str) -> tuple[int, ...]:
    """The numbers of processes that trained a run, ascending; empty if no record has them.

    Raises:
        ConfigError: as `read`.
    """
    recorded = [record["world_sizes"] for record in read(run_dir) if isinstance(record.get("world_sizes"), list)]
    return tuple(sorted(int(size) for size in recorded[-1])) if recorded else ()


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if is_record(record) else None


def is_record(record: Any) -> bool:
    """Whether a value is a record, and what figures read of it has the right types."""
    if not (isinstance(record, dict) and isinstance(record.get("epoch"), int)):
        return False
    points = record.get("val") or []
    if not (isinstance(points, list) and all(isinstance(point, dict) and "lam" in point for point in points)):
        return False
    numbers = [record.get(name) for name in _NUMBERS]
    numbers += [value for point in points for name, value in point.items() if name != "blend"]
    return all(value is None or isinstance(value, int | float) for value in numbers)


def _valid_records(path: Path) -> list[Record]:
    """The records of a file, without damaged lines; empty without a file."""
    if not path.exists():
        return []
    return [record for line in path.read_bytes().splitlines() if (record := _parse(line)) is not None]


def _is_damaged(path: Path) -> bool:
    """Whether a line before the last is no record."""
    return path.exists() and any(_parse(line) is None for line in path.read_bytes().splitlines()[:-1])


def _ends_with_newline(path: Path) -> bool:
    return path.read_bytes().endswith(b"\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
