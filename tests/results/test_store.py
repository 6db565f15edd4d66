from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from distcond.errors import ConfigError
from distcond.results.cost import run_dirs_below
from distcond.results.store import part_files, read_rows, read_runs, to_frame, write_part
from support.processes import LIMIT

# Run in a fresh interpreter: block modules, load rows, and run the rest.
PRELUDE = """
import os, pickle, signal, sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError("no module named " + name, name=name)
sys.meta_path.insert(0, Blocker())
from distcond.errors import ConfigError
from distcond.results.store import read_rows, write_part
with open({rows!r}, "rb") as file:
    rows = pickle.load(file)
"""


def run(tmp_path: Path, code: str, rows: list, blocked: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter with `rows` and without the blocked modules."""
    file = tmp_path / "rows.pickle"
    file.write_bytes(pickle.dumps(rows))
    script = PRELUDE.format(blocked=blocked, rows=str(file)) + code
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=LIMIT)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_parquet_round_trip(tmp_path, make_sweep):
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs pyarrow")
    rows = make_sweep()
    path = write_part(tmp_path, "test-best", rows[::-1])
    assert path == tmp_path / "results" / "test-best.parquet"
    assert sorted(read_rows(tmp_path), key=rows.index) == rows
    file = parquet.ParquetFile(path)
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert {field.name: str(field.type) for field in file.schema_arrow}["num_correct"] == "int64"


def test_json_lines_where_pyarrow_is_missing(tmp_path, make_sweep):
    rows = make_sweep()
    code = f"""
path = write_part({str(tmp_path)!r}, "part", rows)
assert read_rows({str(tmp_path)!r}) == sorted(rows, key=read_rows({str(tmp_path)!r}).index)
assert "pyarrow" not in sys.modules
print(path)
"""
    done = run(tmp_path, code, rows, ("pyarrow",))
    assert done.stdout.strip() == str(tmp_path / "results" / "part.jsonl"), done.stderr
    assert [json.loads(line) for line in (tmp_path / "results" / "part.jsonl").read_text().splitlines()] == [
        asdict(row) for row in rows
    ]
    assert sorted(read_rows(tmp_path), key=rows.index) == rows


def test_parquet_without_pyarrow_is_a_clear_error(tmp_path, make_sweep):
    pytest.importorskip("pyarrow", reason="needs pyarrow to write the part")
    write_part(tmp_path, "part", make_sweep())
    code = f"""
try:
    read_rows({str(tmp_path)!r})
except ConfigError as error:
    print(error)
"""
    done = run(tmp_path, code, [], ("pyarrow",))
    assert "part.parquet: " in done.stdout and "pip install pyarrow" in done.stdout, done.stderr


def test_same_name_replaces_either_format(tmp_path, make_sweep):
    pytest.importorskip("pyarrow", reason="needs both formats")
    first, second = make_sweep((0.0, 0.5)), make_sweep((1.0,))
    write_part(tmp_path, "part", first)
    write_part(tmp_path, "part", second)
    assert {row.lam for row in read_rows(tmp_path)} == {1.0}
    done = run(tmp_path, f"write_part({str(tmp_path)!r}, 'part', rows)", first, ("pyarrow",))
    assert done.returncode == 0, done.stderr
    assert visible(tmp_path / "results") == ["part.jsonl"]
    assert {row.lam for row in read_rows(tmp_path)} == {0.0, 0.5}
    write_part(tmp_path, "part", second)
    assert visible(tmp_path / "results") == ["part.parquet"]


def test_newer_of_two_formats_counts(tmp_path, make_sweep):
    pytest.importorskip("pyarrow", reason="needs both formats")
    old, new = make_sweep((0.0, 0.5)), make_sweep((1.0,))
    parquet = write_part(tmp_path, "part", old)
    lines = parquet.with_suffix(".jsonl")
    lines.write_text("".join(json.dumps(asdict(row)) + "\n" for row in new))
    for newer, older, lams in ((lines, parquet, {1.0}), (parquet, lines, {0.0, 0.5})):
        os.utime(older, ns=(10**18, 10**18))
        os.utime(newer, ns=(2 * 10**18, 2 * 10**18))
        assert {row.lam for row in read_rows(tmp_path)} == lams
        assert part_files(tmp_path) == [newer]


@pytest.mark.parametrize("blocked", [(), ("pyarrow",)], ids=["parquet", "jsonl"])
def test_kill_before_rename_keeps_the_old_part(tmp_path, make_sweep, blocked):
    suffix = "jsonl" if blocked else "parquet"
    if not blocked:
        pytest.importorskip("pyarrow", reason="needs pyarrow")
    old, new = make_sweep((0.0,)), make_sweep((1.0,))

    def write(rows: list) -> None:
        if not blocked:
            write_part(tmp_path, "part", rows)
        else:
            assert run(tmp_path, f"write_part({str(tmp_path)!r}, 'part', rows)", rows, blocked).returncode == 0

    write(old)
    code = f"""
sys.addaudithook(lambda event, _: event == "os.rename" and os.kill(os.getpid(), signal.SIGKILL))
write_part({str(tmp_path)!r}, "part", rows)
"""
    assert run(tmp_path, code, new, blocked).returncode == -signal.SIGKILL
    left = [path.name for path in (tmp_path / "results").iterdir() if path.name.startswith(".")]
    assert len(left) == 1
    assert visible(tmp_path / "results") == [f"part.{suffix}"]
    assert {row.lam for row in read_rows(tmp_path)} == {0.0}
    write(new)
    assert {row.lam for row in read_rows(tmp_path)} == {1.0}


def test_an_exception_leaves_nothing_behind(tmp_path, make_row):
    def rows():
        yield make_row()
        raise RuntimeError("evaluation broke")

    with pytest.raises(RuntimeError):
        write_part(tmp_path, "part", rows())
    assert not (tmp_path / "results").exists()


def test_root_of_runs_is_read_with_highest_attempts(tmp_path, make_row):
    for attempt in (2, 1):
        run_dir = tmp_path / "sweep" / "float-1a2b"
        write_part(run_dir, f"live-{attempt}", [make_row(attempt=attempt, num_correct=attempt)])
    write_part(tmp_path / "key=value", "part", [make_row(run_id="oat-3c4d", num_correct=5)])
    write_part(tmp_path / ".trash", "part", [make_row(run_id="gone")])
    (tmp_path / "sweep" / "float-1a2b" / "history.jsonl").write_text("{}\n")
    (tmp_path / "sweep" / "float-1a2b" / "results" / "._live-1.jsonl").write_bytes(b"\0 left by a file manager")
    assert [(row.run_id, row.num_correct) for row in read_rows(tmp_path)] == [("float-1a2b", 2), ("oat-3c4d", 5)]
    assert [row.run_id for row in read_rows(tmp_path / "key=value")] == ["oat-3c4d"]


def test_runs_of_one_name_get_distinct_ids(tmp_path, make_row):
    for folder, correct in (("local", 6), ("ray", 15)):
        write_part(tmp_path / folder / "float-1a2b", "test-best", [make_row(num_correct=correct)])
    names = {row.run_id: row.num_correct for row in read_rows(tmp_path)}
    assert names == {"float-1a2b (local/float-1a2b)": 6, "float-1a2b (ray/float-1a2b)": 15}
    assert [row.run_id for row in read_rows(tmp_path / "ray")] == ["float-1a2b"]
    found = read_runs([tmp_path / "local", tmp_path / "ray" / "float-1a2b", tmp_path / "local" / "float-1a2b"])
    assert [row.run_id for rows in found.values() for row in rows] == list(names)
    assert run_dirs_below(tmp_path) == {name: tmp_path / name[12:-1] for name in names}


def test_empty_part_and_missing_results_read_empty(tmp_path):
    write_part(tmp_path, "empty", [])
    assert read_rows(tmp_path) == []
    (tmp_path / "new").mkdir()
    assert read_rows(tmp_path / "new") == []


def test_errors_name_the_file(tmp_path, make_row):
    with pytest.raises(ConfigError, match="no folder"):
        read_rows(tmp_path / "nowhere")
    for name in ("../part", "a/b", "", ".hidden", "a b"):
        with pytest.raises(ConfigError, match="plain file name"):
            write_part(tmp_path, name, [])
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "bad.jsonl").write_text(json.dumps(asdict(make_row()) | {"schema_version": 99}) + "\n")
    with pytest.raises(ConfigError, match=r"bad\.jsonl, row 1: schema_version is 99"):
        read_rows(tmp_path)
    (folder / "bad.jsonl").write_text('{"run_id": \n')
    with pytest.raises(ConfigError, match=r"bad\.jsonl"):
        read_rows(tmp_path)
    (folder / "bad.jsonl").write_text("3\n")
    with pytest.raises(ConfigError, match="one JSON object per line"):
        read_rows(tmp_path)


def test_a_broken_parquet_part_is_a_clear_error(tmp_path, make_row):
    pytest.importorskip("pyarrow", reason="needs pyarrow")
    path = write_part(tmp_path, "part", [make_row()])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match=r"part\.parquet") as caught:
        read_rows(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_frame_has_every_field_and_the_accuracy(make_row):
    pytest.importorskip("pandas", reason="needs pandas")
    frame = to_frame([make_row(), replace(make_row(), num_correct=5000)])
    assert list(frame["accuracy"]) == [0.9431, 0.5]
    assert frame["num_correct"].sum() == 14431
    assert list(to_frame([]).columns) == list(frame.columns)


def test_results_import_nothing_heavy():
    code = """
import importlib, pkgutil, sys, distcond.results
for module in pkgutil.iter_modules(distcond.results.__path__, "distcond.results."):
    importlib.import_module(module.name)
heavy = {"torch", "numpy", "pyarrow", "pandas", "matplotlib", "ray"}
print(sorted({name.split(".")[0] for name in sys.modules} & heavy))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=LIMIT)
    assert done.stdout.strip() == "[]"
