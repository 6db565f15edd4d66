"""Runs on a real S3 server: killed and resumed on another machine, read by URI, and without their server."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from distcond.config.command_line import run_cli
from distcond.runs import uploader
from distcond.storage.uri import child_uri, open_store
from support.processes import Process, start
from support.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
#: Directory of `faulty:METHOD`.
LAUNCH = ROOT / "tests" / "launch"
SETTINGS = {
    "launch": "local", "data.loader": "memory", "epochs": 3, "train_examples": 128, "batch_size": 32,
    "model.widths": "4,8", "attack.num_steps": 1, "eval.lam_grid": "0,1", "eval.every": 1, "eval.val_examples": 32,
    "eval.val_steps": 1, "eval.test_examples": 32, "eval.train_examples": 0, "eval.attack.num_steps": 1,
}  # fmt: skip

#: Pauses before the last tries to upload at the end of a run.
AT_END = (0.0, 1.0)

#: The entry point with these pauses.
COMMAND = f"import sys; from distcond.runs import uploader; uploader.AT_END = {AT_END}; import distcond.train as t; "
COMMAND += "from distcond.config.command_line import run_cli; run_cli(lambda: t.main(sys.argv[1:]))"


@pytest.fixture
def make_args(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """`make_args(run_root, ...)`: the arguments of a small run there, with further ones if given."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # local copies of runs that are read by URI
    monkeypatch.setattr(uploader, "AT_END", AT_END)
    monkeypatch.syspath_prepend(LAUNCH)

    def command_line(run_root: str, *more: str) -> list[str]:
        settings = SETTINGS | {"run_root": run_root, "data.cache_dir": tmp_path / "cache"}
        return [*(f"{path}={value}" for path, value in settings.items()), *more]

    return command_line


def start_run(args: list[str], cwd: Path) -> Process:
    """Start a run in its own process."""
    variables = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(LAUNCH)]), "OMP_NUM_THREADS": "1", "FAULT_PACE": "0.3"}
    return start([sys.executable, "-c", COMMAND, *args], cwd=cwd, env={**os.environ, **variables})


def exit_status(args: list[str]) -> int:
    """Run in this process. Returns the exit status."""
    from distcond.train import main

    with pytest.raises(SystemExit) as end:
        run_cli(lambda: main(args))
    assert isinstance(end.value.code, int)
    return end.value.code


def only_run(uri: str) -> str:
    """The URI of the only run below `uri`."""
    (name,) = (name for name in open_store(uri).folders() if not name.startswith("."))
    return child_uri(uri, name)


def wait_for_file(uri: str, name: str, process: Process) -> None:
    store = open_store(uri)
    wait_until(lambda: any(held.endswith(name) for held in store.names()), name, process=process)


def test_killed_run_resumes_elsewhere_and_is_readable(
    s3: Any, make_args: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from distcond import calibrate, evaluate, load, report, status

    with start_run(make_args(s3.uri), tmp_path) as first:
        wait_for_file(s3.uri, "checkpoints/epoch-0001/complete.json", first)
        first.send_signal(signal.SIGKILL)
        first.wait()
    shutil.rmtree(tmp_path / "cache" / "staging")
    assert exit_status(make_args(s3.uri)) == 0
    assert exit_status(make_args(str(tmp_path / "plain"))) == 0
    capsys.readouterr()

    uri = only_run(s3.uri)
    (plain,) = (path for path in (tmp_path / "plain").iterdir() if path.is_dir())
    for which in ("best", "last"):
        one, other = load(uri, which).state_dict(), load(plain, which).state_dict()
        assert all(torch.equal(value, other[name]) for name, value in one.items())

    assert report.main([uri, f"png={tmp_path / 'x.png'}"]) == 0
    expected = capsys.readouterr().out
    report.main([str(plain), f"png={tmp_path / 'x.png'}"])
    assert expected == capsys.readouterr().out
    assert status.main([s3.uri]) == 0
    assert "1 runs: 1 finished" in capsys.readouterr().out

    assert evaluate.main([uri, "attack=fgsm", f"data.cache_dir={tmp_path / 'cache'}"]) == 0
    capsys.readouterr()
    names = set(open_store(uri).names())
    assert any(name.startswith("outcomes/fgsm") for name in names)
    assert calibrate.main([uri, "sa=0.01", "eval.val_examples=32", f"data.cache_dir={tmp_path / 'cache'}"]) == 0
    assert capsys.readouterr().out.startswith("lam")
    assert {name.split("/")[0] for name in set(open_store(uri).names()) - names} == {"outcomes"}
    shutil.rmtree(tmp_path / "home")
    assert report.main([uri, f"png={tmp_path / 'x.png'}"]) == 0
    assert "FGSM" in capsys.readouterr().out


def test_run_without_its_server_is_not_finished(
    s3: Any, make_args: Callable[..., list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    slow = make_args(s3.uri, "method=faulty:METHOD")  # so that the server stops first
    with start_run(slow, tmp_path) as run:
        wait_for_file(s3.uri, "checkpoints/epoch-0001/complete.json", run)
        s3.stop()
        assert run.wait() == 1
    assert "not reachable" in run.output
    (last,) = (line for line in run.output.splitlines() if line.startswith("failed: "))
    assert "StorageError" in last and f"s3://bucket/{s3.place}/faulty" in last
    (here,) = (tmp_path / "cache" / "staging").glob("*/*/*/history.jsonl")
    assert len(here.read_text().splitlines()) == 3
    assert (here.parent / "checkpoints" / "epoch-0003" / "shared.pt").exists()
    assert exit_status(slow) == 1  # not 2: the same command may work later
    error = capfd.readouterr().err
    assert f"failed: s3://bucket/{s3.place}" in error and "not reachable" in error
    s3.start()
    assert exit_status(slow) == 0
    assert any(name.endswith("finished.json") for name in open_store(s3.uri).names())
