"""Code that a run's config.json names runs only if nobody else may have written the file, or with trust=true."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from distcond import calibrate, evaluate
from distcond.config.overrides import resolve
from distcond.errors import ConfigError
from distcond.runs.code_trust import TRUST_VARIABLE, take_trust, who_else_may_write
from distcond.runs.load_run import load
from distcond.runs.run_dir import RunDir

CODE = """
from pathlib import Path
from distcond.methods.float import METHOD
(Path(__file__).parent / "ran").touch()
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run directory whose config names `payload:METHOD`, a module in the working directory."""
    (tmp_path / "payload.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    monkeypatch.delenv(TRUST_VARIABLE, raising=False)
    monkeypatch.delitem(sys.modules, "payload", raising=False)
    path = tmp_path / "run"
    with RunDir(path).begin(resolve("float_digits", {})):
        pass
    content = json.loads((path / "config.json").read_text())
    content["settings"]["method.name"] = "payload:METHOD"
    (path / "config.json").write_text(json.dumps(content))
    return path


def ran(run: Path) -> bool:
    return (run.parent / "ran").exists()


def open_to_all(run: Path) -> None:
    run.chmod(0o777)


def open_file(run: Path) -> None:
    (run / "config.json").chmod(0o666)


def open_to_group(run: Path) -> None:
    os.chown(run, -1, 12345)
    run.chmod(0o775)


def of_another_user(run: Path) -> None:
    os.chown(run / "config.json", 12345, -1)


def below_an_open_folder(run: Path) -> None:
    run.parent.chmod(0o777)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files away")
@pytest.mark.parametrize("share", [open_to_all, open_file, open_to_group, of_another_user, below_an_open_folder])
def test_code_in_a_shared_run_is_refused(
    run: Path, monkeypatch: pytest.MonkeyPatch, share: Callable[[Path], None]
) -> None:
    share(run)
    monkeypatch.setenv("PYTHONPATH", str(run.parent))  # it would be found
    commands: list[Callable[[], object]] = [
        lambda: load(run),
        lambda: RunDir(run).config(),
        lambda: RunDir(run).continued(resolve("float_digits", {})),
        lambda: evaluate.main([str(run)]),
        lambda: calibrate.main([str(run), "ra=0.1"]),
    ]
    content = json.loads((run / "config.json").read_text())
    content["settings"]["eval.attack_name"] = "payload:ATTACK"
    (run / "config.json").write_text(json.dumps(content))
    for command in commands:
        with pytest.raises(ConfigError, match=r"names the code payload:\w+, .*trust=true"):
            command()
    assert not ran(run)


def test_working_directory_is_not_searched(run: Path) -> None:
    with pytest.raises(ConfigError, match="working directory is not searched"):
        RunDir(run).config()
    assert not ran(run)


def test_code_named_in_own_run_is_imported(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(run.parent))
    assert RunDir(run).config().method.name == "payload:METHOD"
    assert ran(run)


def test_trust_runs_the_code(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run.chmod(0o777)
    with pytest.raises(ConfigError, match="no checkpoint yet"):
        load(run, trust=True)
    monkeypatch.setenv(TRUST_VARIABLE, "")
    assert take_trust(["a", "trust=true", "b=1"]) == ["a", "b=1"]
    assert RunDir(run).config().method.name == "payload:METHOD" and ran(run)
    with pytest.raises(ConfigError, match="trust"):
        take_trust(["trust=perhaps"])


def test_sticky_folders_protect_their_entries(tmp_path: Path) -> None:
    (tmp_path / "runs" / "run").mkdir(parents=True)
    file = tmp_path / "runs" / "run" / "config.json"
    file.write_text("")
    assert who_else_may_write(file) == ""
    (tmp_path / "runs").chmod(0o1777)
    assert who_else_may_write(file) == ""
    (tmp_path / "runs" / "run").chmod(0o1777)
    assert "everybody may write" in who_else_may_write(file)
