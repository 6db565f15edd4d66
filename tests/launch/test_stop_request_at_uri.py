"""A run at a URI: stop requests reach other machines, and a refused start uploads nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distcond.errors import ConfigError
from distcond.launch.stopping import forward_stop_request, request_stop, stop_requested
from distcond.runs import remote
from distcond.runs.remote import BackgroundSync, RemoteRun, remote_run_of
from distcond.runs.run_dir import RunDir
from distcond.runs.start import started_run
from support.waiting import wait_until


@pytest.fixture
def remotes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RemoteRun, RemoteRun]:
    """One run on the driver's machine and on that of rank 0."""
    monkeypatch.setattr(remote, "INTERVAL", 0.02)
    for name in ("driver", "worker"):
        (tmp_path / name).mkdir()
    driver, worker = (RemoteRun(f"file://{tmp_path}/there", tmp_path / name) for name in ("driver", "worker"))
    return driver, worker


def test_stop_request_reaches_another_machine_only_once(remotes: tuple[RemoteRun, RemoteRun]) -> None:
    driver, worker = remotes
    driver.publish_start()
    sync = BackgroundSync(worker)
    sync.start()
    with forward_stop_request(driver, driver.local, "first"):
        assert not stop_requested(worker.local, "first")
        request_stop(driver.local, "first")
        wait_until(lambda: stop_requested(worker.local, "first"), "the stop request")
    sync.close()
    assert not stop_requested(worker.local, "second")
    driver.publish_start()
    assert driver.store.read("stop.txt") == b""
    worker.pull()
    assert stop_requested(worker.local, "first")  # on this machine only


def test_refused_start_uploads_nothing(tiny: Any, tmp_path: Path) -> None:
    config = replace(tiny(), run_root=f"file://{tmp_path}/there")
    run = RunDir(tmp_path / "here" / "run")
    remote_run = remote_run_of(config, run.path)
    assert remote_run is not None
    with (
        run.begin(config),
        pytest.raises(ConfigError, match="another process"),
        started_run(config, run, remote_run),
    ):
        pass
    assert remote_run.store.names() == {}
    with pytest.raises(KeyError), started_run(config, run, remote_run):
        raise KeyError("x")
    assert b'"why": "KeyError"' in remote_run.store.read("starts.json")
