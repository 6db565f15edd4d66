from __future__ import annotations

import math
import signal
import subprocess
import sys

import pytest

from distcond.errors import ConfigError
from distcond.results.history import append, read
from support.processes import LIMIT


def epochs(run_dir):
    return [record["epoch"] for record in read(run_dir)]


def test_records_come_back_in_order(tmp_path):
    records = [{"epoch": e, "train_loss": 1 / (e + 1), "val": [{"lam": 0.5, "sa": 0.9, "ra": 0.4}]} for e in range(3)]
    for record in records:
        append(tmp_path / "run", record)
    assert read(tmp_path / "run") == records


def test_no_file_is_no_history(tmp_path):
    assert read(tmp_path) == []


def test_a_resume_replaces_later_epochs(tmp_path):
    for epoch in range(5):
        append(tmp_path, {"epoch": epoch, "train_loss": 1.0})
    append(tmp_path, {"epoch": 2, "train_loss": 2.0})
    append(tmp_path, {"epoch": 3, "train_loss": 2.0})
    assert [(r["epoch"], r["train_loss"]) for r in read(tmp_path)] == [(0, 1.0), (1, 1.0), (2, 2.0), (3, 2.0)]
    append(tmp_path, {"epoch": 0})
    assert epochs(tmp_path) == [0]


@pytest.mark.parametrize("torn", ['{"epoch": 2, "train_lo', '{"epoch": 2, "note": "\udcff', "\0\0\0\0", '{"epoch"'])
def test_torn_last_line_is_dropped(tmp_path, torn):
    for epoch in range(2):
        append(tmp_path, {"epoch": epoch})
    with open(tmp_path / "history.jsonl", "ab") as file:
        file.write(torn.encode(errors="surrogateescape"))
    assert epochs(tmp_path) == [0, 1]
    append(tmp_path, {"epoch": 2, "train_loss": 0.5})
    append(tmp_path, {"epoch": 3})
    assert epochs(tmp_path) == [0, 1, 2, 3]


def test_last_line_without_newline_is_read(tmp_path):
    (tmp_path / "history.jsonl").write_text('{"epoch": 0}\n{"epoch": 1}')
    assert epochs(tmp_path) == [0, 1]
    append(tmp_path, {"epoch": 2})
    assert epochs(tmp_path) == [0, 1, 2]


def test_torn_first_line_is_an_empty_history(tmp_path):
    (tmp_path / "history.jsonl").write_text('{"epo')
    assert epochs(tmp_path) == []
    append(tmp_path, {"epoch": 0})
    append(tmp_path, {"epoch": 1})
    assert epochs(tmp_path) == [0, 1]


def test_damage_before_the_last_line_is_an_error(tmp_path):
    (tmp_path / "history.jsonl").write_text('{"epoch": 0}\n{"epo\n{"epoch": 2}\n')
    with pytest.raises(ConfigError, match=r"history\.jsonl, line 2"):
        read(tmp_path)


def test_a_diverged_loss_stays_valid_json(tmp_path):
    append(tmp_path, {"epoch": 0, "train_loss": math.nan, "val": [{"lam": 0.0, "sa": math.inf}]})
    assert read(tmp_path) == [{"epoch": 0, "train_loss": None, "val": [{"lam": 0.0, "sa": None}]}]
    assert "NaN" not in (tmp_path / "history.jsonl").read_text()


def test_a_kill_while_rewriting_keeps_the_history(tmp_path):
    for epoch in range(4):
        append(tmp_path, {"epoch": epoch})
    code = f"""
import os, signal, sys
from distcond.results.history import append
sys.addaudithook(lambda event, _: event == "os.rename" and os.kill(os.getpid(), signal.SIGKILL))
append({str(tmp_path)!r}, {{"epoch": 1}})
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=LIMIT)
    assert done.returncode == -signal.SIGKILL
    assert epochs(tmp_path) == [0, 1, 2, 3]
    append(tmp_path, {"epoch": 1})
    assert epochs(tmp_path) == [0, 1]
