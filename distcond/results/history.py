"""The history of a training run: one JSON line per epoch in `<run_dir>/history.jsonl`.

A record is a flat mapping with an integer `epoch`. Figures read `step`, `train_loss`, `lr`, `images_per_second`,
`seconds`, and `val`, a list of {"lam", "sa", "ra"} with accuracies in [0, 1] (and `width` if there are several).
`world_sizes` are the numbers of processes that trained the run so far. Other keys are stored unchanged. Only one
process of a run may write.
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


def read(run_dir: Path | str) -> list[Record]:
    """All records, ordered by epoch; empty without a file. A last line cut off by a kill is dropped.

    Raises:
        ConfigError: a line before the last is not a JSON object with an epoch.
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
            raise ConfigError(f"{path}, line {number}: not a JSON object with an integer epoch; fix or delete the line")
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
    return record if isinstance(record, dict) and isinstance(record.get("epoch"), int) else None


def _ends_with_newline(path: Path) -> bool:
    return path.read_bytes().endswith(b"\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
