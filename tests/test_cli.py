"""The console script `distcond`."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib import import_module
from pathlib import Path

import pytest

from distcond.cli import COMMANDS, find_command, main, run
from distcond.errors import ConfigError

ROOT = Path(__file__).parents[1]


def test_script_alone_explains_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert set(COMMANDS) <= {line.split()[0] for line in lines if line.startswith("  ")}
    assert max(map(len, lines)) <= 80 and len(lines) < 32


@pytest.mark.parametrize("name", COMMANDS)
def test_command_is_that_of_its_module(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(SystemExit):
        main([name, "--help"])
    text = capsys.readouterr().out
    module = import_module(COMMANDS[name].module)
    assert find_command(name) is module.main
    assert f"-m {COMMANDS[name].module.removesuffix('.__main__')}" in text


def test_every_command_module_is_listed() -> None:
    modules = {path.stem for path in (ROOT / "distcond").glob("*.py") if "run_cli(lambda: main(" in path.read_text()}
    listed = {command.module for command in COMMANDS.values()}
    assert {f"distcond.{name}" for name in modules - {"cli"}} == {name for name in listed if "cluster" not in name}


def test_unknown_command_names_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match=r"'trian': did you mean train\? valid: train, evaluate, "):
        main(["trian"])


def test_package_installs_the_script() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"distcond": "distcond.cli:run"}
    done = subprocess.run(
        [sys.executable, "-c", "from distcond.cli import run; run()", "evalute"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown command 'evalute': did you mean evaluate?")


def test_script_imports_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "method_of_mine.py").write_text("from distcond.methods.pgd_at import METHOD\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(sys, "argv", ["distcond", "train", "pgd_at_digits", "method=method_of_mine:METHOD", "--show"])
    with pytest.raises(SystemExit) as ended:
        run()
    assert (ended.value.code, "method.name=method_of_mine:METHOD" in capsys.readouterr().out) == (0, True)
