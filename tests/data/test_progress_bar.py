from __future__ import annotations

import io
import logging
import sys

import pytest

from distcond.data import progress_bar as module
from distcond.data.progress_bar import progress_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_terminal_long_jobs_log_twice(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO, logger=module.__name__)
    for total in (module.MIN_LOGGED_ITEMS - 1, module.MIN_LOGGED_ITEMS):
        with progress_bar(total, "counting") as advance:
            advance(total)
    assert [record.getMessage()[:15] for record in caplog.records] == ["counting: 10000"] * 2
    assert capsys.readouterr() == ("", "")


def test_terminals_get_a_bar_on_stderr(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tqdm", reason="bars need tqdm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(module, "BAR_DELAY_SECONDS", 0.0)
    caplog.set_level(logging.INFO, logger=module.__name__)
    with progress_bar(20_000, "counting") as advance:
        advance(20_000)
    assert "counting" in terminal.getvalue()
    assert caplog.records == []
    assert capsys.readouterr().out == ""
