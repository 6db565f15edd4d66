"""Whole runs on a real S3 server: killed with -9, resumed on an empty machine, read by URI, left alone."""

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
#: Where the methods with a fault are.
LAUNCH = ROOT / "tests" / "launch"
SETTINGS = {
    "launch": "local", "data.loader": "memory", "epochs": 3, "train_examples": 128, "batch_size": 32,
    "model.widths": "4,8", "attack.num_steps": 1, "eval.lam_grid": "0,1", "eval.every": 1, "eval.val_examples": 32,
    "eval.val_steps": 1, "eval.test_examples": 32, "eval.train_examples": 0, "eval.attack.num_steps": 1,
}  # fmt: skip

#: Seconds before each try to send what is left at the end of a run.
AT_LAST = (0.0, 1.0)

#: The entry point, less patient at the end.
COMMAND = f"import sys; from distcond.runs import uploader; upload.AT_LAST = {AT_LAST}; import distcond.train as t; "
COMMAND += "t.guarded(lambda: t.main(sys.argv[1:]))"


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """`words(run_root)`: the command line of a run there, with more words if given."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where copies for reading go
    monkeypatch.setattr(uploader, "AT_LAST", AT_LAST)
    monkeypatch.syspath_prepend(LAUNCH)

    def command_line(run_root: str, *more: str) -> list[str]:
        given = SETTINGS | {"run_root": run_root, "data.cache_dir": tmp_path / "cache"}
        return [*(f"{path}={value}" for path, value in given.items()), *more]

    return command_line


def started(words: list[str], cwd: Path) -> Process:
    """A run in a process of its own, for what has to happen to it meanwhile."""
    own = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(LAUNCH)]), "OMP_NUM_THREADS": "1", "FAULT_PACE": "0.3"}
    return start([sys.executable, "-c", COMMAND, *words], cwd=cwd, env={**os.environ, **own})


def status_of(words: list[str]) -> int:
    """The exit status of a run in this process."""
    from distcond.train import main

    with pytest.raises(SystemExit) as end:
        run_cli(lambda: main(words))
    assert isinstance(end.value.code, int)
    return end.value.code


def run_at(uri: str) -> str:
    (name,) = (name for name in open_store(uri).folders() if not name.startswith("."))
    return child_uri(uri, name)


def wait_for_file(uri: str, name: str, process: Process) -> None:
    store = open_store(uri)
    wait_until(lambda: any(held.endswith(name) for held in store.names()), name, process=process)


def test_killed_run_resumes_elsewhere_and_is_readable(
    s3: Any, words: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    from distcond import calibrate, evaluate, load, report, status

    with started(words(s3.uri), tmp_path) as first:
        wait_for_file(s3.uri, "checkpoints/epoch-0001/complete.json", first)
        first.send_signal(signal.SIGKILL)
        first.wait()
    shutil.rmtree(tmp_path / "cache" / "staging")
    assert status_of(words(s3.uri)) == 0
    assert status_of(words(str(tmp_path / "plain"))) == 0
    capsys.readouterr()

    uri = run_at(s3.uri)
    (plain,) = (path for path in (tmp_path / "plain").iterdir() if path.is_dir())
    for which in ("best", "last"):
        one, other = load(uri, which).state_dict(), load(plain, which).state_dict()
        assert all(torch.equal(value, other[name]) for name, value in one.items())

    assert report.main([uri, f"png={tmp_path / 'x.png'}"]) == 0
    told = capsys.readouterr().out
    report.main([str(plain), f"png={tmp_path / 'x.png'}"])
    assert told == capsys.readouterr().out
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
    s3: Any, words: Callable[..., list[str]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    slow = words(s3.uri, "method=faulty:METHOD")  # not over before the server is gone
    with started(slow, tmp_path) as run:
        wait_for_file(s3.uri, "checkpoints/epoch-0001/complete.json", run)
        s3.stop()
        assert run.wait() == 1
    assert "not reachable" in run.output
    (last,) = (line for line in run.output.splitlines() if line.startswith("failed: "))
    assert "StorageError" in last and f"s3://bucket/{s3.place}/faulty" in last
    (here,) = (tmp_path / "cache" / "staging").glob("*/*/*/history.jsonl")
    assert len(here.read_text().splitlines()) == 3
    assert (here.parent / "checkpoints" / "epoch-0003" / "shared.pt").exists()
    assert status_of(slow) == 1  # cannot even begin, which may pass: 2 would say that nothing helps
    said = capfd.readouterr().err
    assert f"failed: s3://bucket/{s3.place}" in said and "not reachable" in said
    s3.start()
    assert status_of(slow) == 0
    assert any(name.endswith("finished.json") for name in open_store(s3.uri).names())
