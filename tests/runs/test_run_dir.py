"""RunDir: locking, content and path of a run directory, and its refusals."""

from __future__ import annotations

import json
import resource
from pathlib import Path
from typing import Any

import pytest

from distcond.atomic_io import read_json, write_json
from distcond.config.overrides import resolve
from distcond.config.run_id import run_id
from distcond.errors import ConfigError, TransientError
from distcond.runs.load_run import find_checkpoint, load
from distcond.runs.provenance import COMMIT_VARIABLE, describe_start, git_commit
from distcond.runs.run_dir import RunDir, run_dir_for, run_root
from distcond.training.progress import ProgressWriter, read_progress

CONFIG = resolve("float_digits", {"seed": 3})


def test_start_writes_config_and_counts_attempts(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "a" / "b")
    for wanted in (0, 1, 2):
        with run.begin(CONFIG) as attempt:
            assert attempt == wanted
    assert run.config() == CONFIG
    assert [set(start) >= {"time", "command", "git_commit", "torch", "host"} for start in run.starts()] == [True] * 3
    assert not run.finished
    assert run.name == "b"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "a")
    # The lock belongs to the open file, so a second start in the same process is refused, too.
    with run.begin(CONFIG), pytest.raises(ConfigError, match="another process"), run.begin(CONFIG):
        pass
    with run.begin(CONFIG):
        pass


def test_refused_first_start_leaves_nothing(tmp_path: Path) -> None:
    for error, kept in ((ConfigError("no"), False), (TransientError("later"), True), (RuntimeError("dead"), True)):
        run = RunDir(tmp_path / "runs" / type(error).__name__)
        with pytest.raises(type(error)), run.begin(CONFIG):
            raise error
        assert run.path.exists() == kept
    with pytest.raises(ConfigError), run.begin(CONFIG):  # existing files are kept
        raise ConfigError("no")
    assert run.starts()[-1]["ended"]["why"] == "no"


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match=r"^run_root: .*run_root=DIR"),
        RunDir(tmp_path / "file" / "run").begin(CONFIG),
    ):
        pass


def test_full_disk_refuses_the_start_and_keeps_files(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with run.begin(CONFIG):
        pass
    before = [(run.path / name).read_text() for name in ("config.json", "starts.json")]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # as on a full disk, files cannot grow
    try:
        with pytest.raises(ConfigError) as refusal, run.begin(CONFIG):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(refusal.value).startswith("run_root: ") and f"{run.path} (File too large)" in str(refusal.value)
    assert [(run.path / name).read_text() for name in ("config.json", "starts.json")] == before


def test_no_run_or_a_newer_one_is_refused(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    with pytest.raises(ConfigError, match=r"config\.json"):
        run.config()
    write_json(tmp_path / "config.json", {"schema_version": 99, "settings": {}})
    with pytest.raises(ConfigError, match="99"):
        run.config()


def test_run_directory_is_run_id_below_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve("float_digits", {"run_root": str(tmp_path)})
    assert run_dir_for(config, "f").path == tmp_path / run_id(config, "f")
    monkeypatch.chdir(tmp_path)
    assert run_root(CONFIG) == tmp_path / "runs"
    assert run_root(resolve("float_digits", {"run_root": "below"})) == tmp_path / "below"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run_root(resolve("float_digits", {"run_root": "~/x"})) == tmp_path / "home" / "x"
    shipped = tmp_path / "_ray_pkg_0123"
    shipped.mkdir()
    monkeypatch.chdir(shipped)
    assert run_root(CONFIG) == tmp_path / "home" / "distcond" / "runs"


def test_fresh_run_gets_a_new_directory(tmp_path: Path) -> None:
    again = resolve("float_digits", {"run_root": str(tmp_path)})
    fresh = resolve("float_digits", {"run_root": str(tmp_path), "fresh": True})
    names = []
    for _ in range(3):
        run = run_dir_for(fresh, "f")
        run.path.mkdir()
        names.append(run.name)
    base = run_id(again, "f")
    assert names == [base, f"{base}-2", f"{base}-3"]
    assert run_dir_for(again, "f").name == base


def test_json_is_written_atomically(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert read_json(file) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("which", ["best", "last"])
def test_a_run_without_a_checkpoint_is_refused(tmp_path: Path, which: str) -> None:
    with RunDir(tmp_path).begin(CONFIG):
        pass
    with pytest.raises(ConfigError, match="no checkpoint"):
        load(tmp_path, which)


def test_unknown_checkpoint_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"checkpoint .first.*best, last, last_raw"):
        find_checkpoint(RunDir(tmp_path), "first")


def test_commit_variable_overrides_git(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COMMIT_VARIABLE, "abc123")
    assert git_commit() == "abc123"
    assert describe_start()["git_commit"] == "abc123"
    assert json.loads(json.dumps(describe_start()))["git_commit"] == "abc123"
    monkeypatch.delenv(COMMIT_VARIABLE)
    monkeypatch.setenv("PATH", "")
    assert git_commit() == "unknown"


class Loss:
    """Counts how often it is copied to the host."""

    looked = 0

    def __float__(self) -> float:
        self.looked += 1
        return 0.5


def test_progress_reads_the_device_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, loss = [100.0], Loss()
    monkeypatch.setattr("distcond.training.progress.time.monotonic", lambda: now[0])
    progress, any_loss = ProgressWriter(tmp_path, 4, 10, 32, active=True), loss
    assert read_progress(tmp_path) is None
    for step in range(8):
        now[0] += 0.25
        progress.step(1, step, any_loss)  # type: ignore[arg-type]
    assert loss.looked == 2
    said = read_progress(tmp_path)
    assert said is not None
    assert {name: said[name] for name in said if name not in ("time", "done", "seconds_left")} == {
        "stage": "train", "epochs": 4, "steps": 10, "epoch": 1, "step": 7, "loss": 0.5, "images_per_second": 128.0,
    }  # fmt: skip


def test_only_active_rank_writes_progress(tmp_path: Path) -> None:
    silent = ProgressWriter(tmp_path, 4, 10, 32, active=False)
    silent.write("test")
    assert read_progress(tmp_path) is None


def test_sweep_rows_name_what_was_counted(tmp_path: Path) -> None:
    from distcond.config.schema import AttackConfig
    from distcond.evaluation.layout import Blocks
    from distcond.evaluation.plan import EvalPlan
    from distcond.evaluation.rows import Count, Provenance, sweep_rows
    from distcond.evaluation.spec import EvalSpec
    from distcond.models.flops import Cost
    from distcond.operating_point import OperatingPoint

    cost = Cost(flops=6.0, dense_flops=24.0, nonzeros=3, weights=12)
    place = OperatingPoint(0.4, "weights", 0.7, 0.5)
    attack = AttackConfig(norm="L2", epsilon=0.5, step_size=0.1, num_steps=20, restarts=2)
    spec, blocks = EvalSpec(attack=("pgd",)), Blocks(100, 50)
    plan = EvalPlan(
        tmp_path, tmp_path, CONFIG, spec, {"pgd": attack}, 7, (place,), (1.0, 0.5), blocks, noisy=True,
    )  # fmt: skip
    origin = Provenance("a-run", "best", 1, 700, git_commit="abc")
    sa, ra = sweep_rows(plan, [Count(place, 80, 30, 100, None, 2.0, cost)], origin)
    assert {sa.point, ra.point} == {place}
    shared: dict[str, Any] = {
        "run_id": "a-run", "attempt": 1, "epoch": 7, "step": 700, "split": "test", "checkpoint": "best", "lam": 0.4,
        "blend": "weights", "blend_t": 0.7, "width": 0.5, "density": 0.25,
        "num_examples": 100, "method": "float", "model": "small_cnn", "dataset": "digits", "seed": 3,
        "noise_mode": "fixed", "noise_seed": 0, "git_commit": "abc", "block_size": 50,
        "world_size": 1, "precision": "float32",
    }  # fmt: skip
    for row in (sa, ra):
        assert {name: getattr(row, name) for name in shared} == shared
    assert (sa.attack, sa.num_correct, sa.num_steps, sa.norm) == ("none", 80, 0, "")
    assert (ra.attack, ra.num_correct, ra.num_steps, ra.restarts, ra.norm) == ("pgd", 30, 20, 2, "L2")
    assert (ra.epsilon, ra.step_size) == (0.5, 0.1)
