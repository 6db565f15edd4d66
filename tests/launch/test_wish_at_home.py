"""A run whose home is a URI: its driver's wish to stop gets there, and what a refused start leaves alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distcond.engine import heartbeat
from distcond.engine.heartbeat import Heartbeat
from distcond.engine.home import Home, home_of
from distcond.engine.run_dir import RunDir
from distcond.errors import ConfigError
from distcond.launch.stop_file import ask, asked, passed_on
from distcond.train import begun
from support.waiting import wait_until


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Home, Home]:
    """One run on the driver's machine and on that of its first worker."""
    monkeypatch.setattr(heartbeat, "INTERVAL", 0.02)
    for name in ("driver", "worker"):
        (tmp_path / name).mkdir()
    driver, worker = (Home(f"file://{tmp_path}/there", tmp_path / name) for name in ("driver", "worker"))
    return driver, worker


def test_stop_request_reaches_another_machine_only_once(homes: tuple[Home, Home]) -> None:
    driver, worker = homes
    driver.announce()
    beats = Heartbeat(worker)
    beats.start()
    with passed_on(driver, driver.local, "first"):
        assert not asked(worker.local, "first")
        ask(driver.local, "first")
        wait_until(lambda: asked(worker.local, "first"), "the wish to arrive")
    beats.close()
    assert not asked(worker.local, "second")
    driver.announce()
    assert driver.store.read("stop.txt") == b""
    worker.arrive()
    assert asked(worker.local, "first")  # of this machine alone


def test_a_start_that_is_refused_sends_nothing(tiny: Any, tmp_path: Path) -> None:
    config = replace(tiny(), run_root=f"file://{tmp_path}/there")
    run = RunDir(tmp_path / "here" / "run")
    home = home_of(config, run.path)
    assert home is not None
    with run.begin(config), pytest.raises(ConfigError, match="going on in another process"), begun(config, run, home):
        pass
    assert home.store.names() == {}
    with pytest.raises(KeyError), begun(config, run, home):
        raise KeyError("x")
    assert b'"why": "KeyError"' in home.store.read("starts.json")
