"""Names from files and paths cannot change a terminal or a Markdown page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from distcond import report, status
from distcond.config.command_line import run_cli
from distcond.errors import ConfigError
from distcond.results.store import read_rows, write_part
from distcond.results.tables import markdown_table
from distcond.terminal_text import markdown_text, printable, printable_line

HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\u202eb\x9b31m"


def is_safe(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def test_control_characters_become_escapes() -> None:
    assert printable("a\x1b[31mb\nc\td") == "a\\x1b[31mb\nc\td"
    assert printable_line("a\nb\tc") == "a\\nb\\tc"
    assert printable("λ ± … 名") == "λ ± … 名"
    assert is_safe(printable(HOSTILE))


def test_status_escapes_names_and_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / f"{HOSTILE}\nfinished  fake"
    run.mkdir()
    (run / "config.json").write_text("{}")
    (run / "starts.json").write_text(json.dumps([{"ended": {"failed": True, "why": HOSTILE}}]))
    assert status.main([str(tmp_path)]) == 1
    text = capsys.readouterr().out
    assert is_safe(text) and len(text.splitlines()) == 3


def test_rows_with_control_characters_are_left_out(tmp_path: Path, make_sweep: Any, capsys: Any) -> None:
    write_part(tmp_path / "good", "test-best", make_sweep((0.0, 1.0)))
    write_part(tmp_path / "bad", "test-best", make_sweep((0.0, 1.0), run_id=HOSTILE))
    assert report.main([str(tmp_path)]) == 1
    found = capsys.readouterr()
    assert is_safe(found.out) and is_safe(found.err)
    assert "control characters" in found.err and "operating points under" in found.out


def test_errors_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> int:
        raise ConfigError(f"{HOSTILE}: no run")

    with pytest.raises(SystemExit):
        run_cli(fail)
    error = capsys.readouterr().err
    assert is_safe(error) and error.count("\n") == 1


def test_markup_is_text_in_markdown(tmp_path: Path, make_sweep: Any) -> None:
    names = ("<img src=x onerror=alert(1)>", "[a](javascript:b)", "a | b", "*c* __d__ `e`")
    rows = [row for name in names for row in make_sweep((0.0, 1.0), run_id=name)]
    write_part(tmp_path, "test-best", rows)
    text = markdown_table(read_rows(tmp_path))
    assert all(markdown_text(name) in text for name in names)
    assert "<img" not in text.replace("\\<img", "") and "a | b" not in text
    assert markdown_text("small_cnn, pgd_at") == "small_cnn, pgd_at"
