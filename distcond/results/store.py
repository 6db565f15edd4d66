"""Rows on disk: one part file per evaluation, `<run_dir>/results/<name>.parquet`, or `.jsonl` without pyarrow."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from distcond.atomic_io import atomic_write
from distcond.errors import ConfigError
from distcond.results.row import COLUMNS, Row, accuracy, highest_attempt, key
from distcond.results.row_versions import from_dict
from distcond.run_layout import RESULTS_DIR

if TYPE_CHECKING:
    import pandas
    import pyarrow.parquet

SUFFIXES = (".parquet", ".jsonl")

#: Columns that are constant in most parts: parquet parts with no wanted row are skipped by their statistics.
FILTER_COLUMNS = ("split", "checkpoint", "method")
#: Whether a row is wanted, by its values in `FILTER_COLUMNS`.
RowFilter = Callable[[Mapping[str, Any]], bool]


class RunRows(NamedTuple):
    """Rows by run directory, one per key and sorted by key, and the errors of the runs that could not be read."""

    rows: dict[Path, list[Row]]
    errors: dict[Path, ConfigError]


def write_part(run_dir: Path | str, name: str, rows: Iterable[Row]) -> Path:
    """Write one evaluation's rows as one part file and return its path. An existing part of that name is replaced.

    Raises:
        ConfigError: `name` contains anything but letters, digits, `_`, `-`, `=` and inner dots.
    """
    if not re.fullmatch(r"[\w=-][\w.=-]*", name, re.ASCII):
        raise ConfigError(f"part name {name!r} is not a plain file name; use letters, digits, '_', '-', '=' and dots")
    folder, rows = Path(run_dir) / RESULTS_DIR, list(rows)
    parquet, lines = (folder / f"{name}{suffix}" for suffix in SUFFIXES)
    path, twin = (parquet, lines) if _has_pyarrow() else (lines, parquet)
    with atomic_write(path) as temporary:
        if path == parquet:
            _write_parquet(temporary, rows)
        else:
            temporary.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
    # Last: after a kill before this line there are two parts, and readers take the newer one.
    twin.unlink(missing_ok=True)
    return path


def read_rows(root: Path | str) -> list[Row]:
    """All rows of one run, or of every run below a folder: one per key (see `highest_attempt`), sorted by key.

    Raises:
        ConfigError: no such folder, an unreadable part, or a parquet part without pyarrow.
    """
    return sorted((row for rows in read_runs([root]).values() for row in rows), key=key)


def read_runs(roots: Sequence[Path | str]) -> dict[Path, list[Row]]:
    """The rows of every run in or below folders, by run directory; one per key, sorted by key.

    If several directories hold runs of one name (copies, or one configuration below two roots), the run_id of their
    rows becomes `NAME (DIRECTORY)`.

    Raises:
        ConfigError: as `read_rows`.
    """
    found = scan_runs(roots)
    for error in found.errors.values():
        raise error
    return found.rows


def scan_runs(roots: Sequence[Path | str], wanted: RowFilter | None = None) -> RunRows:
    """Like `read_runs`, with the runs that cannot be read apart from the others. Every part is read once at most.

    Args:
        roots: Folders.
        wanted: Which rows to read; None = all. Runs without such rows are listed with none.

    Raises:
        ConfigError: no such folder.
    """
    by_run = dict[Path, dict[Path, None]]()
    for root in map(Path, roots):
        if not root.is_dir():
            raise ConfigError(f"no folder {root}; name a run directory or a folder of runs")
        for part in part_files(root.resolve()):
            by_run.setdefault(part.parent.parent, {})[part] = None
    rows, errors = dict[Path, list[Row]](), dict[Path, ConfigError]()
    for run_dir, parts in by_run.items():
        try:
            rows[run_dir] = highest_attempt(row for part in parts for row in _read_part(part, wanted))
        except ConfigError as error:
            errors[run_dir] = error
    return RunRows(_disambiguate_run_ids(rows), errors)


def part_files(root: Path) -> list[Path]:
    """The part files below `root`, oldest first, without unfinished ones."""
    ages = {path: path.stat().st_mtime_ns for path in _candidates(root)}
    by_age = sorted(ages, key=lambda path: (ages[path], path))
    newest = {path.with_name(path.stem): path for path in by_age}
    return [path for path in by_age if newest[path.with_name(path.stem)] == path]


def remove_parts(run_dir: Path | str, unwanted: Callable[[Row], bool]) -> list[str]:
    """Remove the parts of a run that contain an unwanted row; return their names.

    Raises:
        ConfigError: a part cannot be read.
    """
    folder = (Path(run_dir) / RESULTS_DIR).absolute()
    own = [part for part in part_files(folder) if part.parent == folder]
    removed = [part for part in own if any(map(unwanted, _read_part(part)))]
    for part in removed:
        for suffix in SUFFIXES:  # or readers would find an older twin
            part.with_name(f"{part.stem}{suffix}").unlink(missing_ok=True)
    return [part.stem for part in removed]


def to_frame(rows: Iterable[Row]) -> pandas.DataFrame:
    """The rows as a pandas data frame: one column per field, and `accuracy` in [0, 1].

    Raises:
        ConfigError: pandas is missing.
    """
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("results as a data frame need pandas: pip install pandas") from error
    records = [asdict(row) | {"accuracy": accuracy(row)} for row in rows]
    return pandas.DataFrame(records, columns=[*COLUMNS, "accuracy"])


def _disambiguate_run_ids(runs: dict[Path, list[Row]]) -> dict[Path, list[Row]]:
    dirs = dict[str, list[Path]]()
    for run_dir, rows in runs.items():
        for run_id in {row.run_id for row in rows}:
            dirs.setdefault(run_id, []).append(run_dir)
    suffixes = {
        (run_id, run_dir): suffix
        for run_id, of_name in dirs.items()
        for run_dir, suffix in zip(of_name, _shortest_distinct_paths(of_name), strict=True)
    }
    return {
        run_dir: [
            replace(row, run_id=f"{row.run_id} ({suffix})") if (suffix := suffixes[row.run_id, run_dir]) else row
            for row in rows
        ]
        for run_dir, rows in runs.items()
    }


def _shortest_distinct_paths(dirs: list[Path]) -> list[str]:
    """The last parts of each path, as few as are needed to make them distinct; "" for a single path."""
    if len(dirs) == 1:
        return [""]
    for count in range(1, max(len(path.parts) for path in dirs) + 1):
        names = [str(Path(*path.parts[-count:])) for path in dirs]
        if len(set(names)) == len(names):
            return names
    raise AssertionError(dirs)


def _candidates(root: Path) -> Iterator[Path]:
    # os.walk, not rglob: running trainings delete folders (old checkpoints) during the walk.
    for folder, subfolders, names in os.walk(root.absolute()):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        if Path(folder).name == RESULTS_DIR:
            yield from (Path(folder, n) for n in names if n.endswith(SUFFIXES) and not n.startswith("."))


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


def _read_part(path: Path, wanted: RowFilter | None = None) -> list[Row]:
    records = _parquet_records(path, wanted) if path.suffix == ".parquet" else _json_records(path)
    numbered = enumerate(records, 1)
    return [from_dict(r, f"{path}, row {n}") for n, r in numbered if wanted is None or _is_wanted(r, wanted)]


def _is_wanted(record: Mapping[str, Any], wanted: RowFilter) -> bool:
    # A record without these columns is invalid: `from_dict` says so.
    return not all(name in record for name in FILTER_COLUMNS) or wanted(record)


def _parquet_records(path: Path, wanted: RowFilter | None) -> list[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(f"{path}: reading parquet needs pyarrow: pip install pyarrow") from error
    try:
        # Not read_table, which adds a column for every parent folder named a=b.
        with pyarrow.parquet.ParquetFile(path) as file:
            if wanted is not None and not _may_hold_wanted(file.metadata, wanted):
                return []
            # Parts are small: threads cost more than they save.
            columns = file.read(use_threads=False).to_pydict()
    except (pyarrow.ArrowException, OSError) as error:
        raise ConfigError(f"{path}: not a readable parquet file: {str(error).splitlines()[0]}") from error
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _may_hold_wanted(metadata: pyarrow.parquet.FileMetaData, wanted: RowFilter) -> bool:
    """Whether a part may hold a wanted row, by the statistics of columns that have one value in the whole part."""
    if metadata.num_row_groups != 1:
        return metadata.num_rows > 0
    group, names = metadata.row_group(0), metadata.schema.names
    found = [group.column(names.index(name)).statistics for name in FILTER_COLUMNS if name in names]
    constant = [one for one in found if one is not None and one.has_min_max and one.min == one.max]
    if len(constant) < len(FILTER_COLUMNS):
        return True
    return wanted({name: one.min for name, one in zip(FILTER_COLUMNS, constant, strict=True)})


def _json_records(path: Path) -> list[dict[str, Any]]:
    try:
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (ValueError, OSError) as error:
        raise ConfigError(f"{path}: not a readable JSON-lines file: {error}") from error
    if not all(isinstance(record, dict) for record in records):
        raise ConfigError(f"{path}: must hold one JSON object per line")
    return records
