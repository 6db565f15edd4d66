"""A directory is shown or resumed only if it holds the run of the config."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from distcond import train
from distcond.atomic_io import write_json
from distcond.config.command_line import parse
from distcond.config.overrides import resolve
from distcond.data.prepare import prepare_data
from distcond.errors import ConfigError
from distcond.results import history
from distcond.runs.provenance import source_digests
from distcond.runs.run_dir import RunDir, run_dir_for
from distcond.training.progress import read_progress

WORDS = ("float_digits", "launch=local", "data.loader=memory", "eval.sentinel=off")


def arguments(place: Path, *more: str) -> list[str]:
    return [*WORDS, f"run_root={place / 'runs'}", f"data.cache_dir={place / 'cache'}", *more]


def run_of(place: Path, *more: str) -> RunDir:
    config = parse(arguments(place, *more)).config
    return run_dir_for(config, prepare_data(config.data).fingerprint)


def finished(place: Path, *more: str, world_sizes: tuple[int, ...] = (1,)) -> RunDir:
    run = run_of(place, *more)
    with run.begin(parse(arguments(place, *more)).config):
        history.append(run.path, {"epoch": 1, "world_sizes": list(world_sizes)})
        write_json(run.path / "finished.json", {})
    return run


def test_a_copied_finished_run_is_refused(tmp_path: Path) -> None:
    shutil.copytree(finished(tmp_path, "seed=0").path, run_of(tmp_path, "seed=1").path)
    with pytest.raises(ConfigError, match=r"holds another run \(seed=0 there, 1 here\)"):
        train.main(arguments(tmp_path, "seed=1"))
    assert train.main(arguments(tmp_path, "seed=0")) == 0


def test_a_copy_for_other_images_is_refused(tmp_path: Path) -> None:
    run = finished(tmp_path)
    other = RunDir(Path(shutil.copytree(run.path, run.path.with_name(f"{run.name[:-8]}01234567"))))
    with pytest.raises(ConfigError, match=f"holds another run .run ID {run.name}"):
        other.check(parse(arguments(tmp_path)).config)
    for name in (f"{run.name}-2", run.name):
        write_json(run.path / "config.json", {**run._read_config_file(), "run_id": name})
        run.check(parse(arguments(tmp_path)).config)


def test_a_finished_run_without_config_is_refused(tmp_path: Path) -> None:
    (finished(tmp_path).path / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        train.main(arguments(tmp_path))


@pytest.mark.parametrize(("sizes", "said"), [((1,), ""), ((2,), "trained with 2 workers"), ((1, 2), "with 1, then 2")])
def test_other_world_size_is_logged(tmp_path: Path, caplog: Any, sizes: tuple[int, ...], said: str) -> None:
    finished(tmp_path, world_sizes=sizes)
    with caplog.at_level("INFO"):
        assert train.main(arguments(tmp_path)) == 0
    lines = [record.message for record in caplog.records if "this command would use 1" in record.message]
    assert len(lines) == bool(said)
    assert all(said in line for line in lines)


@pytest.mark.parametrize("text", ["", "{", "[]", "[1]", '"a"', "{}", '{"schema_version": 1}', "\x80"])
def test_damaged_config_is_refused(tmp_path: Path, text: str) -> None:
    (finished(tmp_path).path / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"config\.json: ") as refused:
        train.main(arguments(tmp_path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", "\x80"])
def test_damaged_progress_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "progress.json").write_text(text, encoding="latin-1")
    with pytest.raises(ConfigError, match=r"progress\.json: damaged"):
        read_progress(tmp_path)


@pytest.fixture
def own_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "own_losses.py").write_text("SCALE = 1\n")
    (tmp_path / "own_method.py").write_text(
        "from dataclasses import replace\nimport own_losses\nfrom distcond.methods.pgd_at import METHOD as BASE\n"
        "METHOD = replace(BASE, name='own')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("own_method", "own_losses"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("changed", ["own_method", "own_losses"])
def test_a_method_whose_source_changed_is_refused(own_method: Path, changed: str) -> None:
    own = "method=own_method:METHOD"
    run = finished(own_method, own)
    assert train.main(arguments(own_method, own)) == 0
    with open(own_method / f"{changed}.py", "a") as file:
        file.write("# another loss\n")
    with pytest.raises(ConfigError, match=r"method=own_method:METHOD: its source .* fresh=true"):
        train.main(arguments(own_method, own))
    assert run_of(own_method, own, "fresh=true").name == f"{run.name}-2"
    assert "own_method:METHOD" in run.changed_source(run.config())


def test_the_package_itself_has_no_source_digest() -> None:
    config = resolve("float_digits", {"method": "distcond.methods.pgd_at:METHOD"})
    assert source_digests(config) == {}
    assert source_digests(replace(config, method=resolve("float_digits", {}).method)) == {}


@pytest.mark.parametrize(
    "wrong",
    [
        "batch_size=5000",
        "train_examples=100 batch_size=101",
        "method=oat eval.lam_grid=0.05",
        "method=float_slim method.width_mults=0.5",
    ],
)
@pytest.mark.parametrize("launcher", ["ray", "local"])
def test_a_refusal_leaves_no_run_directory(tmp_path: Path, wrong: str, launcher: str) -> None:
    with pytest.raises(ConfigError):
        train.main(arguments(tmp_path, *wrong.split(), f"launch={launcher}"))
    assert not list(tmp_path.glob("runs/*"))
    assert "ray" not in sys.modules or not sys.modules["ray"].is_initialized()
