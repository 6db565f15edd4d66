"""Rows on disk: one small part per evaluation, `<run_dir>/results/<name>.parquet` or `.jsonl` without pyarrow."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distcond.atomic_io import atomic_write
from distcond.errors import ConfigError
from distcond.results.row import COLUMNS, Row, accuracy, from_dict, highest_attempt, key
from distcond.run_layout import RESULTS_DIR

if TYPE_CHECKING:
    import pandas

FORMATS = (".parquet", ".jsonl")


def write_part(run_dir: Path | str, name: str, rows: Iterable[Row]) -> Path:
    """Write one evaluation's rows as one part and return its path. The same name again replaces the part.

    Raises:
        ConfigError: `name` holds anything but letters, digits, `_`, `-`, `=` and inner dots.
    """
    if not re.fullmatch(r"[\w=-][\w.=-]*", name, re.ASCII):
        raise ConfigError(f"part name {name!r} is no plain file name; use letters, digits, '_', '-', '=' and dots")
    folder, rows = Path(run_dir) / RESULTS_DIR, list(rows)
    parquet, lines = (folder / f"{name}{suffix}" for suffix in FORMATS)
    path, twin = (parquet, lines) if _has_pyarrow() else (lines, parquet)
    with atomic_write(path) as aside:
        if path == parquet:
            _write_parquet(aside, rows)
        else:
            aside.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
    # Only now: a kill before this line leaves two parts, of which readers take the newer one.
    twin.unlink(missing_ok=True)
    return path


def read_rows(root: Path | str) -> list[Row]:
    """All rows of one run, or of every run below a folder, one per key (see `highest_attempt`), sorted by key.

    Raises:
        ConfigError: no such folder, a part that cannot be read, or a parquet part where pyarrow is missing.
    """
    return sorted((row for rows in read_runs([root]).values() for row in rows), key=key)


def read_runs(places: Sequence[Path | str]) -> dict[Path, list[Row]]:
    """The rows of every run at and below folders, by run directory; one per key, sorted by key.

    Two directories that hold runs of one name are two runs: their rows say `NAME (DIRECTORY)`. That happens to a copy,
    and to runs of one configuration below two roots.

    Raises:
        ConfigError: as `read_rows`.
    """
    by_run = dict[Path, list[Path]]()
    for root in map(Path, places):
        if not root.is_dir():
            raise ConfigError(f"no folder {root}; give a run_dir or a folder of runs")
        for part in part_files(root.resolve()):
            of_run = by_run.setdefault(part.parent.parent, [])
            of_run += [part] if part not in of_run else []
    rows = {at: highest_attempt(row for part in own for row in _read_part(part)) for at, own in by_run.items()}
    return _disambiguate(rows)


def _disambiguate(found: dict[Path, list[Row]]) -> dict[Path, list[Row]]:
    dirs = dict[str, list[Path]]()
    for run_dir, rows in found.items():
        for run_id in {row.run_id for row in rows}:
            dirs.setdefault(run_id, []).append(run_dir)
    names = {
        (run_id, at): name
        for run_id, places in dirs.items()
        for at, name in zip(places, _shortest_distinct_paths(places), strict=True)
    }
    return {
        at: [replace(row, run_id=f"{row.run_id} ({name})") if (name := names[row.run_id, at]) else row for row in rows]
        for at, rows in found.items()
    }


def _shortest_distinct_paths(places: list[Path]) -> list[str]:
    """What tells directories apart: as few of the last parts of their paths as it takes; "" of one alone."""
    if len(places) == 1:
        return [""]
    for parts_taken in range(1, max(len(place.parts) for place in places) + 1):
        names = [str(Path(*place.parts[-parts_taken:])) for place in places]
        if len(set(names)) == len(names):
            return names
    raise AssertionError(places)


def part_files(root: Path) -> list[Path]:
    """The part files below `root`, oldest first; half-written files are not among them."""
    found = {path: path.stat().st_mtime_ns for path in _candidates(root)}
    by_age = sorted(found, key=lambda path: (found[path], path))
    newest = {path.with_name(path.stem): path for path in by_age}
    return [path for path in by_age if newest[path.with_name(path.stem)] == path]


def remove_parts(run_dir: Path | str, unwanted: Callable[[Row], bool]) -> list[str]:
    """Remove the parts of a run in which a row is unwanted; their names.

    Raises:
        ConfigError: a part cannot be read.
    """
    folder = (Path(run_dir) / RESULTS_DIR).absolute()
    own = [part for part in part_files(folder) if part.parent == folder]
    found = [part for part in own if any(map(unwanted, _read_part(part)))]
    for part in found:
        for suffix in FORMATS:  # an older twin would come to light again
            part.with_name(f"{part.stem}{suffix}").unlink(missing_ok=True)
    return [part.stem for part in found]


def to_frame(rows: Iterable[Row]) -> pandas.DataFrame:
    """The rows as a pandas frame, one column per field and `accuracy` in [0, 1].

    Raises:
        ConfigError: pandas is missing.
    """
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("results as a frame need pandas: pip install pandas") from error
    records = [asdict(row) | {"accuracy": accuracy(row)} for row in rows]
    return pandas.DataFrame(records, columns=[*COLUMNS, "accuracy"])


def _candidates(root: Path) -> Iterator[Path]:
    # os.walk, not rglob: runs that still train delete folders (old checkpoints) under the walk.
    for place, folders, names in os.walk(root.absolute()):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        if Path(place).name == RESULTS_DIR:
            yield from (Path(place, n) for n in names if n.endswith(FORMATS) and not n.startswith("."))


def _has_pyarrow() -> bool:
    try:
        import_module("pyarrow.parquet")
    except ImportError:
        return False
    return True


def _write_parquet(path: Path, rows: list[Row]) -> None:
    import pyarrow
    import pyarrow.parquet

    types = {"str": pyarrow.string(), "int": pyarrow.int64(), "float": pyarrow.float64()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    table = pyarrow.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    pyarrow.parquet.write_table(table, path, compression="zstd")


def _read_part(path: Path) -> list[Row]:
    records = _parquet_records(path) if path.suffix == ".parquet" else _json_records(path)
    return [from_dict(record, f"{path}, row {number}") for number, record in enumerate(records, 1)]


def _parquet_records(path: Path) -> list[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(f"{path} needs pyarrow to be read: pip install pyarrow") from error
    try:
        # Not read_table: it would add columns for folders named a=b above the file.
        with pyarrow.parquet.ParquetFile(path) as file:
            records: list[dict[str, Any]] = file.read().to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ConfigError(f"{path} is no readable parquet file: {str(error).splitlines()[0]}") from error
    return records


def _json_records(path: Path) -> list[dict[str, Any]]:
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise ConfigError(f"{path} is no readable JSON-lines file: {error}") from error
    if not all(isinstance(record, dict) for record in records):
        raise ConfigError(f"{path} must hold one JSON object a line")
    return records
