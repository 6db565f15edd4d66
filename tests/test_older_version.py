"""Runs, rows and checkpoints that version 631f675 wrote are still read; see data_of_631f675/README.md."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import distcond
from distcond import evaluate, report, status, train, tune
from distcond.config.overrides import resolve
from distcond.errors import ConfigError
from distcond.init_from.initialise import check_init_from
from distcond.results import history, trials
from distcond.results.store import read_rows
from distcond.runs.run_dir import RunDir

DATA = Path(__file__).parent / "data_of_631f675"
FINISHED, STOPPED = "float-digits-small_cnn-s0-ad48cee5", "float-digits-small_cnn-s1-2c502c15"
#: What both commands of 631f675 set, and the defaults that changed since.
SETTINGS = (
    *("float_digits", "launch=local", "data.loader=memory", "model.widths=4,4,8", "epochs=2"),
    *("eval.val_examples=40", "eval.test_examples=60", "eval.train_examples=40", "eval.every=2", "eval.val_steps=2"),
    *("eval.attack.num_steps=2", "eval.lam_grid=0,1", "eval.batch_size=60"),
    *("attack.epsilon=0.2", "eval.attack.epsilon=0.2"),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A copy of the files."""
    return Path(shutil.copytree(DATA, tmp_path / "data"))


def command(runs: Path, cache: Path, *settings: str) -> list[str]:
    return [*SETTINGS, f"run_root={runs}", f"data.cache_dir={cache}", *settings]


def test_checkpoint_loads_with_equal_logits() -> None:
    model = distcond.load(DATA / "runs" / FINISHED)
    images = torch.linspace(0, 1, 384).reshape(2, 3, 8, 8)
    for lam, logits in json.loads((DATA / "logits.json").read_text()).items():
        torch.testing.assert_close(distcond.AtLambda(model, float(lam))(images), torch.tensor(logits))


def test_rows_are_read_under_present_attack_names() -> None:
    rows = [row for row in read_rows(DATA / "runs") if (row.split, row.checkpoint) == ("test", "best")]
    counts = {(row.attack, row.lam): row.num_correct for row in rows}
    assert counts == {
        ("none", 0.0): 17, ("none", 1.0): 18, ("pgd-last", 0.0): 7, ("pgd-last", 1.0): 6, ("pgd", 0.0): 5,
        ("pgd", 1.0): 7,
    }  # fmt: skip


def test_report_and_status_read_old_runs(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert report.main([str(data / "runs")]) == 0
    assert "28.33" in capsys.readouterr().out
    assert status.main([str(data / "runs"), "format=json"]) == 0
    states = {run["name"]: run["state"] for run in json.loads(capsys.readouterr().out)}
    assert states == {FINISHED: "finished", STOPPED: "stopped"}


def test_finished_run_is_shown_not_trained(data: Path, digits_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = ("save_every=2", "attack.num_steps=1", "batch_size=32", "optim.lr=0.2")
    assert train.main(command(data / "runs", digits_cache, *own)) == 0
    assert "already finished" in capsys.readouterr().out
    assert len(list((data / "runs").iterdir())) == 2


def test_stopped_run_resumes_and_finishes(data: Path, digits_cache: Path) -> None:
    assert train.main(command(data / "runs", digits_cache, "seed=1", "attack.num_steps=20")) == 0
    run = RunDir(data / "runs" / STOPPED)
    assert run.finished and len(run.starts()) == 2
    assert [record["epoch"] for record in history.read(run.path)] == [1, 2]
    assert history.read(run.path)[0] == history.read(DATA / "runs" / STOPPED)[0]


def test_resumed_run_keeps_its_attack(data: Path, digits_cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = command(data / "runs", digits_cache, "seed=1", "attack.num_steps=20")
    for _ in range(2):
        assert train.main(argv) == 0
        run = RunDir(data / "runs" / STOPPED)
        assert {row.attack for row in read_rows(run.path)} == {"none", "pgd-last"}
        assert run.config().eval.attack_name == "pgd-last"
    assert "already finished" in capsys.readouterr().out
    assert len(list((data / "runs").iterdir())) == 2


def test_old_run_is_evaluated_again(data: Path, digits_cache: Path) -> None:
    run = data / "runs" / FINISHED
    settings = ("attack=fgsm", "launch=local", "launch.workers=1", f"data.cache_dir={digits_cache}")
    assert evaluate.main([str(run), *settings]) == 0
    assert {row.lam for row in read_rows(run) if row.attack == "fgsm"} == {0.0, 1.0}


def test_new_run_starts_from_an_old_one() -> None:
    config = resolve("float_digits", {"model.widths": "4,4,8", "init_from": str(DATA / "runs" / FINISHED)})
    assert check_init_from(config) is not None


def test_sweep_is_refused_and_its_runs_are_read(data: Path) -> None:
    pytest.importorskip("pandas", reason="trials are a pandas data frame")
    commands = (
        lambda place: tune.main(["--resume", place, "--show"]),
        lambda place: tune.main(["--confirm", place]),
        lambda place: report.main([place]),
        trials,
    )
    for command_of in commands:
        with pytest.raises(ConfigError, match="3f95480"):
            command_of(str(data / "sweep"))
    assert {row.num_examples for row in read_rows(data / "sweep" / "runs")} == {60}
