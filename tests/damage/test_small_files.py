"""A damaged small file of a run costs one line, or is rebuilt; it hides no other run and loses no epoch."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distcond import evaluate, report, status, train
from distcond.config.command_line import parse
from distcond.distributed.world import World
from distcond.errors import ConfigError
from distcond.results import history
from distcond.results.store import read_rows, write_part
from distcond.run_layout import (
    ATTEMPT_FILE,
    CLASSES_FILE,
    CONFIG_FILE,
    FINISHED_FILE,
    HISTORY_FILE,
    INIT_FROM_FILE,
    LINEAGE_FILE,
    MIXEDNUTS_FILE,
    PAIR_FILE,
    PROBE_FILE,
    PROGRESS_FILE,
    STARTS_FILE,
    STOP_FILE,
)  # fmt: skip
from distcond.runs.attempts import begin_attempt, next_attempt
from distcond.runs.load_run import load
from distcond.runs.run_dir import RunDir
from distcond.train import resolve_run
from distcond.training.fit import begin_training

EPOCHS = 3
Check = Callable[[Path, list[str], Any], None]
#: Every small file in a run directory. A kind of result or outcome is named by its pattern.
FILES = (
    ATTEMPT_FILE, CLASSES_FILE, CONFIG_FILE, FINISHED_FILE, HISTORY_FILE, INIT_FROM_FILE,
    LINEAGE_FILE, MIXEDNUTS_FILE, PAIR_FILE, PROBE_FILE, PROGRESS_FILE, STARTS_FILE, STOP_FILE,
    "results/test-best*.parquet", "results/val-*.parquet", "results/costs-*.json", "outcomes/*/settings.json",
    "outcomes/*/block-*.npz", "outcomes/sentinel-*.json", "failures/attempt-00-worker-0000.txt", "results/table.md",
)  # fmt: skip


def _retyped(content: bytes) -> bytes:
    """The same JSON keys with values of another type; other files as a JSON number."""

    def other(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: [] if not isinstance(item, dict | list) else 3 for key, item in value.items()}
        return [3, other(value[0]) if isinstance(value[0], dict) else "x"] if isinstance(value, list) and value else 3

    with suppress(ValueError):
        return json.dumps(other(json.loads(content))).encode()
    lines = list[bytes]()
    with suppress(ValueError):
        lines = [json.dumps(other(json.loads(line))).encode() + b"\n" for line in content.splitlines()]
    return b"".join(lines) or b"3\n"


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: max(1, 2 * len(content) // 3)],
    "list": lambda content: b"[]\n",
    "number": lambda content: b"3\n",
    "retyped": _retyped,
    "not utf-8": lambda content: b"\xff\xfe" + content[2:],
}


@pytest.fixture(scope="module")
def words(digits_cache: Path) -> list[str]:
    return [
        "float_digits", "model.widths=4,4,8", "data.loader=memory", f"data.cache_dir={digits_cache}", "launch=local",
        "train_examples=100", "batch_size=32", f"epochs={EPOCHS}", "attack.num_steps=1", "eval.val_examples=20",
        "eval.val_steps=1", "eval.test_examples=20", "eval.train_examples=0", "eval.attack.num_steps=1",
        "eval.lam_grid=0,1", "eval.batch_size=20",
    ]  # fmt: skip


def make_run(words: list[str], root: Path, limit: int) -> Path:
    """A run that stopped after `limit` epochs; 0: a finished one, with another evaluation."""
    words = [*words, f"run_root={root}"]
    config = parse(words).config
    run = resolve_run(config, None, 1)
    run.path.mkdir(parents=True)
    (run.path / "failures").mkdir()
    (run.path / "failures" / "attempt-00-worker-0000.txt").write_text("Traceback\nOSError: an older one\n")
    if limit:
        with run.begin(config) as base:
            _, attempt = begin_attempt(World(), run.path, base)
            with begin_training(config, World(), run.path, attempt) as training:
                assert limit in training.epochs()
                training.progress.write("stopped", epoch=limit, step=0)
    else:
        train.main(words)
        assert evaluate.main([str(run.path), "attack=fgsm"]) == 0
    for name in (STOP_FILE, PROBE_FILE, CLASSES_FILE, INIT_FROM_FILE, LINEAGE_FILE, MIXEDNUTS_FILE, PAIR_FILE):
        if not (run.path / name).exists():
            (run.path / name).write_text(json.dumps({"a": "b"}))
    return run.path


@pytest.fixture(scope="module")
def runs(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """A run that stopped in its last epoch (False), and a finished one (True)."""
    root = tmp_path_factory.mktemp("runs")
    return {
        finished: make_run(words, root / str(finished), 0 if finished else EPOCHS - 1) for finished in (False, True)
    }


def check_status(run: Path, words: list[str], capsys: Any) -> None:
    status.main([str(run.parent), "format=json"])
    shown = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert shown["other"]["state"] == "finished"
    assert run.name in shown


def check_report(run: Path, words: list[str], capsys: Any) -> None:
    content = report.read_content(report.parse_query([str(run.parent)]))
    assert report.content_text(report.parse_query([str(run.parent)]), content)
    assert any(path.name == "other" for path in content.data.run_dirs.values())
    report.read_content(report.parse_query([str(run)]))


def check_load(run: Path, words: list[str], capsys: Any) -> None:
    load(run)


def check_evaluate(run: Path, words: list[str], capsys: Any) -> None:
    assert evaluate.main([str(run), "attack=fgsm"]) == 0


def check_resume(run: Path, words: list[str], capsys: Any) -> None:
    assert train.main([*words, f"run_root={run.parent}"]) == 0
    assert [record["epoch"] for record in history.read(run)] == list(range(1, EPOCHS + 1))
    assert RunDir(run).finished


CHEAP = {"status": check_status, "report": check_report, "load": check_load}
#: What a run can write again, or does not need, to resume or to be evaluated: no refusal.
RESUMES = {
    ATTEMPT_FILE, CONFIG_FILE, HISTORY_FILE, PROGRESS_FILE, STARTS_FILE, FINISHED_FILE, CLASSES_FILE, PAIR_FILE,
    MIXEDNUTS_FILE, INIT_FROM_FILE, STOP_FILE, PROBE_FILE,
}  # fmt: skip


def damaged_copy(runs: dict[bool, Path], finished: bool, file: str, damage: str, to: Path) -> Path | None:
    """A copy of a run with a damaged file, beside a sound one; None if the run has no such file."""
    if not list(runs[finished].glob(file)):
        return None
    run = to / "runs" / runs[finished].name
    ignored = shutil.ignore_patterns("*.png", "*.html")
    shutil.copytree(runs[finished], run, ignore=ignored)
    shutil.copytree(runs[True], run.with_name("other"), ignore=ignored)
    for path in run.glob(file):
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
    return run


def try_command(check: Check, run: Path, words: list[str], capsys: Any) -> str:
    """The one line of a refusal; "" without one."""
    line = ""
    try:
        check(run, words, capsys)
    except ConfigError as error:
        line = str(error)
    assert "\n" not in line
    assert str(run) in line or not line
    return line


def check_commands(
    runs: dict[bool, Path], words: list[str], tmp_path: Path, capsys: Any, finished: bool, file: str, damages: Any
) -> None:
    """Check that no command ends in a traceback, and that status refuses nothing."""
    for damage in damages:
        run = damaged_copy(runs, finished, file, damage, tmp_path / damage)
        for name, check in CHEAP.items() if run else ():
            assert not (try_command(check, run, words, capsys) and name == "status"), (damage, name)


@pytest.mark.parametrize("file", FILES)
def test_damaged_file_is_no_traceback(
    runs: dict[bool, Path], words: list[str], tmp_path: Path, capsys: Any, file: str
) -> None:
    damage = list(DAMAGES)[FILES.index(file) % len(DAMAGES)]
    check_commands(runs, words, tmp_path, capsys, True, file, [damage])


@pytest.mark.cluster
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("finished", [False, True])
def test_no_damage_is_a_traceback(
    runs: dict[bool, Path], words: list[str], tmp_path: Path, capsys: Any, finished: bool, file: str
) -> None:
    check_commands(runs, words, tmp_path, capsys, finished, file, DAMAGES)


def test_all_state_files_damaged_lose_no_epoch(
    runs: dict[bool, Path], words: list[str], tmp_path: Path, capsys: Any
) -> None:
    run = damaged_copy(runs, False, CONFIG_FILE, "retyped", tmp_path)
    assert run is not None
    for name in (STARTS_FILE, ATTEMPT_FILE, PROGRESS_FILE, HISTORY_FILE):
        (run / name).write_bytes(DAMAGES["retyped"]((run / name).read_bytes()))
    check_resume(run, words, capsys)


@pytest.mark.cluster
@pytest.mark.parametrize("damage", ["empty", "truncated", "retyped"])
@pytest.mark.parametrize("file", FILES)
def test_every_damage_loses_no_epoch(
    runs: dict[bool, Path], words: list[str], tmp_path: Path, capsys: Any, file: str, damage: str
) -> None:
    run = damaged_copy(runs, False, file, damage, tmp_path)
    if run:
        refused = try_command(check_resume, run, words, capsys)
        assert not (refused and file in RESUMES), refused
    elif run := damaged_copy(runs, True, file, damage, tmp_path / "finished"):
        try_command(check_evaluate, run, words, capsys)


def test_status_names_damaged_files(runs: dict[bool, Path], tmp_path: Path, capsys: Any) -> None:
    for file in (ATTEMPT_FILE, CONFIG_FILE, FINISHED_FILE, PROGRESS_FILE, STARTS_FILE):
        run = damaged_copy(runs, True, file, "empty", tmp_path / file)
        assert run is not None
        status.main([str(run)])
        assert f"damaged: {file}" in capsys.readouterr().out


def test_damaged_finished_file_is_written_again(
    runs: dict[bool, Path], words: list[str], tmp_path: Path, capsys: Any
) -> None:
    run = damaged_copy(runs, True, FINISHED_FILE, "empty", tmp_path)
    assert run is not None
    check_resume(run, words, capsys)
    before, after = (json.loads((path / FINISHED_FILE).read_text()) for path in (runs[True], run))
    assert before == after


@pytest.mark.parametrize("kept", [0, 1])
def test_missing_history_is_restored_from_checkpoint(
    runs: dict[bool, Path], words: list[str], tmp_path: Path, capsys: Any, caplog: Any, kept: int
) -> None:
    run = damaged_copy(runs, False, PROGRESS_FILE, "empty", tmp_path)
    assert run is not None
    lines = (run / HISTORY_FILE).read_text().splitlines(keepends=True)
    (run / HISTORY_FILE).write_text("".join(lines[:kept]))
    check_resume(run, words, capsys)
    assert (run / HISTORY_FILE).read_text().splitlines(keepends=True)[: EPOCHS - 1] == lines
    assert f"{EPOCHS - 1 - kept} of {EPOCHS - 1} epochs were missing and are restored" in caplog.text


def test_missing_history_without_a_copy_is_refused(
    runs: dict[bool, Path], words: list[str], tmp_path: Path, capsys: Any
) -> None:
    run = damaged_copy(runs, False, HISTORY_FILE, "empty", tmp_path)
    assert run is not None
    for copy in run.glob(f"checkpoints/*/{HISTORY_FILE}"):  # as in checkpoints of earlier versions
        copy.unlink()
    with pytest.raises(ConfigError, match=r"history\.jsonl: 2 of 2 epochs are missing"):
        check_resume(run, words, capsys)


def test_attempt_continues_after_that_of_rows(runs: dict[bool, Path], tmp_path: Path) -> None:
    run = damaged_copy(runs, False, ATTEMPT_FILE, "empty", tmp_path)
    assert run is not None
    write_part(run, "val-epoch-0001", [replace(row, attempt=7) for row in read_rows(runs[True])])
    assert next_attempt(run, 0) == 8
