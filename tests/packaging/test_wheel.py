from __future__ import annotations

import csv
import io
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from support.processes import LIMIT

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    _run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the wheel, which uses the dependencies of this one."""
    environment = tmp_path_factory.mktemp("environment")
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    _run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)],
        environment,
    )
    # .pth files in that folder are not read, so the checkout's editable install is not used.
    site = Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))
    site.joinpath("dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def test_wheel_contains_the_page_template(wheel: Path) -> None:
    files = set(zipfile.ZipFile(wheel).namelist())
    assert {f"distcond/reporting/page.{kind}" for kind in ("py", "html", "js")} <= files


def test_wheel_has_one_top_level_package(wheel: Path) -> None:
    top = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"distcond"}


def test_wheel_contains_every_package_file(wheel: Path) -> None:
    files = set(zipfile.ZipFile(wheel).namelist())
    package = {path.relative_to(ROOT).as_posix() for path in _sources(ROOT / "distcond")}
    spaces = {f"distcond/{path.relative_to(ROOT).as_posix()}" for path in _sources(ROOT / "tune_spaces")}
    assert "distcond/py.typed" in package
    assert {name for name in files if name.startswith("distcond/")} == package | spaces


def test_wheel_record_is_complete_with_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (record,) = [name for name in archive.namelist() if name.endswith(".dist-info/RECORD")]
        listed = {row[0] for row in csv.reader(io.StringIO(archive.read(record).decode()))}
        assert listed == set(archive.namelist())
    assert any(name.endswith("licenses/LICENSE") for name in listed)


def test_installed_wheel_imports_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = "import distcond as d, importlib.metadata as m; print(d.__file__, d.__version__, m.version('distcond'))"
    location, version, metadata_version = _run([str(installed), "-c", code], tmp_path).split()
    assert Path(location).is_relative_to(installed.parents[1])
    assert version == metadata_version
    assert Path(location).with_name("py.typed").exists()


def test_train_help_works_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    assert "float_digits" in _run([str(installed), "-m", "distcond.train", "--help"], tmp_path)


def test_installed_script_runs_outside_the_checkout(installed: Path, tmp_path: Path) -> None:
    script = str(installed.with_name("distcond"))
    assert "commands:" in _run([script], tmp_path)
    for command in ("slurm", "job"):
        done = subprocess.run([script, command, "--help"], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"error: distcond {command}: ") and "checkout" in done.stderr


def _sources(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def _run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return done.stdout
